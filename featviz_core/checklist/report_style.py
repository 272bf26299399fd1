"""How the HTML report looks, in light and in dark, on a screen and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #23262d; --faint: #6b7280; --line: #d9dce3; --soft: #f4f5f8;
  --pass: #1a7f4b; --warn: #a66a00; --fail: #c5283d; --alarm: #c5283d; --band: #1a7f4b24;
  --c0: #4269d0; --c1: #d55e00; --c2: #1a7f4b; --c3: #a463f2; --c4: #97752a; --c5: #6b7280;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #14161b; --ink: #e7e9ee; --faint: #9aa1ae; --line: #343943; --soft: #1d2027;
  --pass: #4cc38a; --warn: #e0a33a; --fail: #ff6b7d; --alarm: #ff6b7d; --band: #4cc38a2b;
  --c0: #7c9cf5; --c1: #f28e3c; --c2: #4cc38a; --c3: #bd8cf7; --c4: #d3b05f; --c5: #9aa1ae;
} }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }
h1 { margin: 0 } h2 { margin: 2rem 0 .5rem; font-size: 1.15rem } h4 { margin: 1rem 0 .2rem }
p { margin: 0 0 .5rem } .subject, .question, small, footer { color: var(--faint) }
.headline { margin: 1rem 0; padding: .6rem 1rem; border-left: .3rem solid; background: var(--soft) }
.headline.pass { border-color: var(--pass) } .headline.fail { border-color: var(--fail) }
.board { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 1rem; font-size: .92rem }
.board ul { list-style: none; margin: .25rem 0; padding: 0 } .board a { color: inherit; text-decoration: none }
.board a:hover { text-decoration: underline }
.board b, .sign { display: inline-block; width: 1.2rem; flex: none }
.pass > b, .pass > summary .sign { color: var(--pass) } .warn > b, .warn > summary .sign { color: var(--warn) }
.fail > b, .fail > summary .sign { color: var(--fail) } .not_run > b, .not_run > summary { color: var(--faint) }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; padding: .6rem .9rem }
summary { display: flex; gap: .5rem; cursor: pointer; list-style: none; overflow-wrap: anywhere }
summary::-webkit-details-marker { display: none }
details[open] > summary { margin-bottom: .7rem }
.judged { background: var(--soft); padding: .3rem .6rem }
table.data { border-collapse: collapse; font-size: .88rem; margin: .3rem 0 .8rem }
table.data th { text-align: left; font-weight: 600; color: var(--faint) }
table.data th, table.data td { padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere }
tr.marked td { font-weight: 600 } .wide { overflow-x: auto }
pre, code { font: .86em/1.45 ui-monospace, monospace } pre { background: var(--soft); padding: .7rem .9rem;
  border-radius: .4rem; overflow-x: auto; margin: .3rem 0 }
td pre { margin: 0; white-space: pre-wrap }
figure { margin: .8rem 0; max-width: 44rem } figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .2rem }
svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: var(--faint) }
.grid { stroke: var(--line); stroke-width: 1 } .bad { stroke: var(--alarm); stroke-dasharray: 3 3 }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .82rem; color: var(--faint) }
.legend i { display: inline-block; width: .9rem; height: .25rem; margin-right: .35rem; vertical-align: middle }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem } .pictures span { display: flex; flex-direction: column }
.pictures img { border-radius: .25rem; max-width: 9rem } .pictures small { max-width: 9rem }
footer { margin: 2rem 0; font-size: .88rem }
@media print { details { break-inside: avoid } }
"""
