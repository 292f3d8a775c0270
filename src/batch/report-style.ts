/** How the report looks; light or dark as the reader's system is. */
export const REPORT_STYLE = `
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --back: #fcfcfd; --line: #dfe1e6;
  --raised: #f3f4f6; --good: #2b7a4b; --good-bar: #8fd0a9; --bad: #b42318; --bad-bar: #f2a49c;
  --calm: #8b8d98; --calm-bar: #c9cbd3; --joined: #1c5a36; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #a8abb3; --back: #14161a;
  --line: #32363d; --raised: #1d2025; --good: #6fd59b; --good-bar: #2c6b47; --bad: #ff9d92;
  --bad-bar: #8c3229; --calm: #9a9ea8; --calm-bar: #4a4e57; --joined: #a9efc6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { margin: 0; font-size: 24px; } h2 { margin: 32px 0 10px; font-size: 17px; }
.when { margin: 2px 0 18px; color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 0; }
.figures div { background: var(--raised); border-radius: 8px; padding: 10px 14px; }
dt { color: var(--soft); font-size: 13px; } dd { margin: 0; font-size: 21px; font-weight: 600; }
small { display: block; color: var(--soft); font-size: 12px; font-weight: 400; overflow-wrap: anywhere; }
.figures .bad dd { color: var(--bad); }
.failures { margin: 0; padding: 0; list-style: none; }
.failures li { border-left: 4px solid var(--bad); background: var(--raised); padding: 8px 12px;
  margin-bottom: 8px; border-radius: 0 8px 8px 0; overflow-wrap: anywhere; }
.failures small { display: inline; }
code { font: 13px ui-monospace, 'DejaVu Sans Mono', monospace; color: var(--soft); }
figure { margin: 0; overflow-x: auto; } svg { display: block; width: 100%; min-width: 640px; }
svg text { font-size: 11px; fill: var(--text); } .grid line { stroke: var(--line); }
.grid text { fill: var(--soft); text-anchor: middle; } svg .row { fill: var(--soft); font-size: 12px; }
.bar.converted rect, span.converted:empty { fill: var(--good-bar); background: var(--good-bar); }
.bar.failed rect, span.failed:empty { fill: var(--bad-bar); background: var(--bad-bar); }
.bar.aborted rect, span.aborted:empty { fill: var(--calm-bar); background: var(--calm-bar); }
.bar rect.joined { fill: var(--joined); }
figcaption { color: var(--soft); font-size: 13px; margin-top: 6px; }
figcaption span { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin: 0 5px 0 10px; vertical-align: -1px; }
figcaption span:first-child { margin-left: 0; }
.scroll { overflow-x: auto; } table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-size: 13px; font-weight: 500; }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { overflow-wrap: anywhere; min-width: 180px; } .number { text-align: right; white-space: nowrap; }
.number + td:last-child, th:last-child { padding-left: 12px; }
.mark.converted { color: var(--good); } .mark.failed { color: var(--bad); font-weight: 600; }
.mark.skipped, .mark.aborted { color: var(--calm); }
@media print { main { max-width: none; padding: 0; } }
`;
