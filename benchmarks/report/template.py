"""The frame of a report's page: its style, and the script that sorts its tables."""

from __future__ import annotations

import base64
import hashlib

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1b1b;--soft:#5c5c5c;--line:#d8d8d8;
--band:#f4f5f7;--link:#0058a3;--warn:#fff4d6}
@media (prefers-color-scheme:dark){:root{--back:#16181c;--text:#e8e8e8;--soft:#a5a5a5;
--line:#3a3d44;--band:#21242a;--link:#7db9f0;--warn:#3a3014}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:75rem;padding:1.5rem 1rem 4rem;background:var(--back);
color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1,h2{line-height:1.2}h2{margin-top:2.5rem}
a{color:var(--link)}p{max-width:70ch}
.notes{background:var(--warn);padding:.75rem 1rem .75rem 2rem;border-radius:.4rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top;font-weight:400;overflow-wrap:anywhere}
td,thead th{min-width:4rem}
tbody th{min-width:13rem}
.numbers td,.numbers thead th+th{text-align:right;white-space:nowrap}
.numbers thead th+th button{text-align:right}
strong{font-weight:700}
thead button{all:unset;cursor:pointer;font-weight:600;display:block;width:100%}
thead button:focus-visible{outline:2px solid var(--link)}
thead button:after{content:"\\2195";color:var(--soft);padding-left:.3em}
th[aria-sort=ascending] button:after{content:"\\2191"}
th[aria-sort=descending] button:after{content:"\\2193"}
tbody tr:hover{background:var(--band)}
figure{margin:1.5rem 0;padding:1rem;background:#fff;color:#1b1b1b;border:1px solid var(--line);
border-radius:.4rem;overflow-x:auto}
figure svg{display:block;margin:auto;width:100%;height:auto}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
figcaption{font-size:.875rem;color:#5c5c5c;text-align:center;margin-top:.5rem}
figcaption a{color:#0058a3}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0;padding:.3rem .8rem}
summary{cursor:pointer;overflow-wrap:anywhere}
dl{border-top:1px solid var(--line);margin:.5rem 0;padding-top:.5rem}
dt{font-size:.8rem;color:var(--soft)}dd{margin:0 0 .4rem}
pre{margin:0;padding:.4rem .6rem;background:var(--band);border-radius:.3rem;
white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem;unicode-bidi:isolate}
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = [...body.rows].some((row) => "by" in row.cells[at].dataset);
    const key = (row) => numeric ? parseFloat(row.cells[at].dataset.by)
                                 : row.cells[at].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return up ? x.localeCompare(y) : y.localeCompare(x);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return up ? x - y : y - x;
    };
    body.append(...[...body.rows].sort(order));
  }));
}
"""


def page(title: str, body: str) -> str:
    """A whole page.

    The page's content security policy lets the browser fetch nothing and run only this script, so
    that any text of a policy can be shown safely.

    Args:
        title: The title, as HTML.
        body: The content, as HTML.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += f"script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<script>{_SCRIPT}</script>
</body>
</html>
"""
