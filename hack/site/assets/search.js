// SPDX-License-Identifier: Apache-2.0
// Search in search-index.js, which is fetched when somebody begins to search. A part of a page is found if it holds every word.
(() => {
  const input = document.getElementById("search"), results = document.getElementById("results");
  const base = input.dataset.index.replace(/search-index\.js$/, "");
  let loading = false, at = -1;

  const load = () => {
    if (loading) return;
    loading = true;
    const script = document.createElement("script");
    script.src = input.dataset.index;
    script.onload = search;
    document.head.append(script);
  };

  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

  const score = (part, terms) => {
    const page = part.p.toLowerCase(), heading = part.h.toLowerCase(), text = part.t.toLowerCase();
    let sum = 0;
    for (const term of terms) {
      const found = (page.includes(term) ? 6 : 0) + (heading.includes(term) ? 10 : 0) +
        (text.includes(term) ? 1 + Math.min(3, text.split(term).length - 2) : 0);
      if (!found) return 0;
      sum += found;
    }
    const whole = terms.join(" ");
    if (heading === whole) sum += 30;
    if (page === whole && !part.h) sum += 40;
    return part.u.startsWith("design/") ? sum / 3 : sum;
  };

  const marked = (text, terms) => {
    const node = document.createElement("span");
    const escaped = terms.map((t) => t.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
    text.split(new RegExp(`(${escaped})`, "i")).forEach((piece, i) => {
      const part = document.createElement(i % 2 ? "mark" : "span");
      part.textContent = piece;
      node.append(part);
    });
    return node;
  };

  const snippet = (text, terms) => {
    const first = Math.max(0, ...terms.map((t) => text.toLowerCase().indexOf(t)));
    const from = Math.max(0, first - 50);
    return (from ? "… " : "") + text.slice(from, from + 140) + (from + 140 < text.length ? " …" : "");
  };

  const search = () => {
    const terms = words(input.value);
    results.replaceChildren();
    at = -1;
    results.hidden = terms.length === 0 || !window.searchIndex;
    if (results.hidden) return;
    const found = window.searchIndex.map((part) => [score(part, terms), part]).filter(([s]) => s > 0)
      .sort((a, b) => b[0] - a[0]).slice(0, 12);
    for (const [, part] of found) {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = base + part.u;
      const head = document.createElement("strong");
      head.append(marked(part.h ? `${part.p} › ${part.h}` : part.p, terms));
      const text = document.createElement("small");
      text.append(marked(snippet(part.t, terms), terms));
      link.append(head, text);
      item.append(link);
      results.append(item);
    }
    if (!found.length) {
      const item = document.createElement("li");
      item.className = "none";
      item.textContent = "Nothing holds all of these words.";
      results.append(item);
    }
  };

  const move = (by) => {
    const links = results.querySelectorAll("a");
    if (!links.length) return;
    at = (at + by + links.length) % links.length;
    links.forEach((link, i) => link.classList.toggle("chosen", i === at));
    links[at].scrollIntoView({block: "nearest"});
  };

  input.addEventListener("focus", load);
  input.addEventListener("input", () => { load(); search(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter") {
      const link = results.querySelectorAll("a")[Math.max(0, at)];
      if (link) location.href = link.href;
    } else if (event.key === "Escape") {
      input.value = "";
      search();
      input.blur();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      input.focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) results.hidden = true;
  });

  // A page that is opened with ?q=… searches at once.
  const asked = new URLSearchParams(location.search).get("q");
  if (asked) {
    input.value = asked;
    load();
  }
})();
