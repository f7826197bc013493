// SPDX-License-Identifier: Apache-2.0
// Light or dark: what somebody chose here, or else what the system says.
(() => {
  const root = document.documentElement;
  const show = (theme) => theme ? root.setAttribute("data-theme", theme) : root.removeAttribute("data-theme");
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* a page from a file may have no storage */ }
  show(chosen);
  document.addEventListener("DOMContentLoaded", () => {
    // The page of now is in sight at the side, however far down it stands.
    const here = document.querySelector(".side [aria-current]");
    if (here) here.closest(".side").scrollTop = here.offsetTop - innerHeight / 2;
    document.getElementById("theme").addEventListener("click", () => {
      const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      chosen = dark ? "light" : "dark";
      show(chosen);
      try { localStorage.setItem("theme", chosen); } catch { /* it holds for this page, then */ }
    });
  });
})();
