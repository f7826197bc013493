{{- $list := slice -}}
{{- range site.Pages -}}
  {{- if .File -}}
    {{- $page := . -}}
    {{- $title := partial "title.html" . -}}
    {{- $marked := .Content | replaceRE `<h[2-4] id="` "\x01" -}}
    {{- range $i, $part := split $marked "\x01" -}}
      {{- $anchor := "" -}}{{- $heading := "" -}}{{- $text := $part -}}
      {{- if $i -}}
        {{- $anchor = index (split $part "\"") 0 -}}
        {{- $heading = $part | replaceRE `(?s)^[^>]*>(.*?)</h[2-4]>.*$` "$1" | plainify | htmlUnescape | strings.TrimSpace -}}
        {{- $text = $part | replaceRE `(?s)^.*?</h[2-4]>` "" -}}
      {{- else -}}
        {{- $text = $part | replaceRE `(?s)<h1.*?</h1>` "" -}}
      {{- end -}}
      {{- $text = $text | replaceRE `(?s)<!--.*?-->` "" | replaceRE `</(td|th|p|li|pre)>` " " | plainify | htmlUnescape | replaceRE `\s+` " " | strings.TrimSpace -}}
      {{- $list = $list | append (dict "p" $title "u" (printf "%s%s" ($page.RelPermalink | strings.TrimPrefix "/") (cond (eq $anchor "") "" (printf "#%s" $anchor))) "h" $heading "t" $text) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
window.searchIndex = {{ $list | jsonify }};
