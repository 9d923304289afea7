"""The page's look: one column, system fonts, the reader's choice of light or dark."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1d2327; --ink-soft: #5b666e; --rule: #e0e4e6; --shade: #e7ecef;
  --good: #1b7f4b; --bad: #c2362b; --good-soft: #e4f3ea; --bad-soft: #fbe7e5;
  --series-0: #5b6ee1; --series-1: #0f8b8d; --series-2: #d9772b; --series-3: #a23e8c; --series-4: #6a994e;
    --series-5: #7a7f87;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181b; --card: #1b2024; --ink: #e8ecee; --ink-soft: #9aa6ad; --rule: #2c3439; --shade: #2a3339;
    --good: #5cc98c; --bad: #f07c70; --good-soft: #1b3327; --bad-soft: #3c2221;
    --series-0: #93a0ff; --series-1: #4fc4c5; --series-2: #f0a060; --series-3: #d987c6; --series-4: #a0cd82;
      --series-5: #aab1b8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 var(--font); }
main { max-width: 1120px; margin: 0 auto; padding: 48px 28px 72px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 10px; font-weight: 650; }
h2 { font-size: 19px; margin: 52px 0 12px; font-weight: 650; }
p { margin: 0 0 10px; max-width: 74ch; }
.soft, small, figcaption { color: var(--ink-soft); }
.verdict { display: inline-block; margin: 10px 0 0; padding: 4px 12px; border-radius: 999px; font-weight: 600;
  font-size: 14px; }
.verdict.good { color: var(--good); background: var(--good-soft); }
.verdict.bad { color: var(--bad); background: var(--bad-soft); }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; }
table.figures { font-size: 13.5px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures th, .figures td { padding: 7px 9px; text-align: right; }
.figures thead th { font-weight: 600; vertical-align: bottom; line-height: 1.3; }
.figures thead tr:first-child th { padding-bottom: 0; text-align: left; color: var(--ink-soft); font-weight:
  500; font-size: 12.5px; }
.figures thead tr:last-child th small { display: block; font-weight: 400; }
.figures thead th[rowspan] { color: var(--ink); font-weight: 600; font-size: 13.5px; padding-bottom: 7px; }
.figures th:first-child { padding-left: 16px; }
.figures td:last-child, .figures thead tr:last-child th:last-child { padding-right: 16px; }
.figures tbody th { text-align: left; font-weight: 500; }
.figures tbody th small { display: block; font-size: 12px; font-weight: 400; line-height: 1.3; }
.figures tbody tr { border-top: 1px solid var(--rule); }
.figures .edge { border-left: 1px solid var(--rule); }
.figures .emphasis th, .figures .emphasis td { font-weight: 650; }
.notes { margin: 12px 0 0; padding: 0; list-style: none; font-size: 13px; color: var(--ink-soft); }
.notes li { margin: 0 0 4px; max-width: 110ch; }
.checks { list-style: none; margin: 0; padding: 0; border: 1px solid var(--rule); border-radius: 10px;
  background: var(--card); }
.checks li { display: grid; grid-template-columns: 76px 1fr; gap: 0 12px; padding: 9px 16px; border-top: 1px
  solid var(--rule); }
.checks li:first-child { border-top: 0; }
.checks b { font-weight: 650; font-size: 13.5px; }
.checks .good b { color: var(--good); }
.checks .bad b { color: var(--bad); }
.checks span { display: block; font-size: 13.5px; color: var(--ink-soft); font-variant-numeric: tabular-nums; }
figure { margin: 0 0 18px; }
figcaption { font-size: 13px; margin-top: 6px; max-width: 110ch; }
svg { display: block; width: 100%; height: auto; }
.chart { border: 1px solid var(--rule); border-radius: 10px; background: var(--card); padding: 14px 14px 8px; }
.ranking { margin: 0 0 22px; }
.ranking h3 { font-size: 14px; font-weight: 600; margin: 0 0 6px; }
.ranking h3 span { color: var(--ink-soft); font-weight: 400; }
.strip { display: grid; grid-template-columns: repeat(9, minmax(0, 1fr)); gap: 10px; }
.strip figure { margin: 0; }
.strip img { display: block; width: 100%; height: auto; border-radius: 6px; border: 3px solid transparent; }
.strip .good img { border-color: var(--good); }
.strip .bad img { border-color: var(--bad); }
.strip figcaption { font-size: 12px; text-align: center; margin-top: 3px; font-variant-numeric: tabular-nums; }
.strip .good figcaption { color: var(--good); }
.strip .bad figcaption { color: var(--bad); }
.frames { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
.frames figure { margin: 0; }
.frames img { display: block; width: 100%; height: auto; border-radius: 8px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 24px; align-items: start; }
.plain { font-size: 13.5px; border: 1px solid var(--rule); border-radius: 10px; background: var(--card);
  border-spacing: 0; border-collapse: separate; }
.plain th, .plain td { text-align: left; vertical-align: top; padding: 6px 16px; border-top: 1px solid
  var(--rule); font-weight: 400; }
.plain tr:first-child > * { border-top: 0; }
.plain th { color: var(--ink-soft); white-space: nowrap; }
.plain.right td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 760px) {
  main { padding: 28px 16px 48px; }
  .pair { grid-template-columns: 1fr; }
  .frames { grid-template-columns: 1fr; }
  .strip { grid-template-columns: repeat(5, minmax(0, 1fr)); }
}
@media print { body { background: #fff; } h2 { break-after: avoid; } figure, .ranking { break-inside: avoid; } }
"""
