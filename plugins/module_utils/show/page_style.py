# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the page looks: light, dark and printed."""

from __future__ import annotations

# Colours of instances are hues; how light they are follows the scheme, so that text on them keeps its contrast.
STYLE = """
:root{color-scheme:light dark;
--page:#f6f7f9;--card:#fff;--text:#1b1f27;--quiet:#586070;--line:#d8dce3;--soft:#eceff3;
--accent:#2456b3;--bad:#a3231c;--bad-soft:#fdeeec;--warn:#7a4d00;
--fill:93%;--strong:36%;--grey:18%;
--weights:#3666b3;--activation:#a05f0c;--graphs:#8152a8;--outside:#626b79;--cache:#217350;--on:#fff;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;}
@media (prefers-color-scheme:dark){:root{
--page:#14171c;--card:#1c2027;--text:#e4e7ec;--quiet:#a0a8b6;--line:#353b46;--soft:#262b34;
--accent:#8ab4f8;--bad:#ff9c92;--bad-soft:#3a2220;--warn:#f0c060;
--fill:20%;--strong:68%;--weights:#3f70c0;--activation:#9c5f12;--graphs:#8659b0;--outside:#626c7a;--cache:#267856;}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:32px 24px 48px;max-width:1240px;background:var(--page);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1,h2,h3,p,ul,ol,dl,dd,figure,pre{margin:0}
ul,ol{padding-left:20px}
h1{font-size:26px;line-height:1.2;letter-spacing:-.01em}
h2{font-size:19px;line-height:1.3}
h3{font-size:16px;line-height:1.3}
a{color:var(--accent)}
a:focus-visible,summary:focus-visible,.scrolling:focus-visible{outline:2px solid var(--accent);outline-offset:2px;
border-radius:3px}
.skip{position:absolute;left:-999px}
.skip:focus{left:24px;top:8px}
.quiet{color:var(--quiet);font-size:13px}
.top{margin-bottom:24px}
.lead{color:var(--quiet);font-size:16px;margin-top:4px}
nav{margin-bottom:24px}
nav ul{display:flex;flex-wrap:wrap;gap:6px 20px;padding:0;list-style:none}
.refusals{border-left:4px solid var(--bad);background:var(--bad-soft);padding:14px 18px;border-radius:0 8px 8px 0;
margin-bottom:24px}
.refusals h2{color:var(--bad);font-size:16px;margin-bottom:4px}
section.hosts{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 24px 24px;
margin-bottom:24px}
.many{font-weight:400;color:var(--quiet);margin-left:10px;font-size:15px}
.columns{display:grid;grid-template-columns:minmax(0,584px) minmax(0,1fr);gap:32px;margin-top:6px}
.figures,.instances,.instance{grid-template-columns:minmax(0,1fr)}
.figures{display:grid;gap:16px;align-content:start;align-self:start;position:sticky;top:16px}
figure{min-width:0}
figcaption{color:var(--quiet);font-size:14px;margin-bottom:12px}
.host-name{color:var(--text);display:block}
.joined figure+figure{border-top:2px dotted var(--quiet);padding-top:16px}
.notes{display:grid;gap:8px}
.state{color:var(--bad)}
svg.host{display:block;width:100%;height:auto;font-family:inherit}
.instances{display:grid;gap:20px;align-content:start}
.instance{border-top:3px solid hsl(var(--h) 55% var(--strong));padding-top:12px;display:grid;gap:12px;min-width:0}
.instance header{display:flex;flex-wrap:wrap;align-items:center;gap:4px 10px}
.model{color:var(--quiet);font-size:14px}
.badge{background:hsl(var(--h) 60% var(--fill));color:hsl(var(--h) 60% var(--strong));font-weight:700;font-size:13px;
border:1px solid;border-radius:5px;padding:0 7px;line-height:20px}
.is-refused{border-top-color:var(--bad);border-top-style:dashed}
.badge.refused{background:var(--bad-soft);color:var(--bad)}
.reason{font-weight:600}
.remedies li{padding-left:4px}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(124px,1fr));gap:8px 16px}
dt{color:var(--quiet);font-size:12.5px;line-height:1.35}
dd{font-variant-numeric:tabular-nums;font-weight:600}
.reasons,.warnings,.ranks{font-size:14px}
.warnings{list-style:none;padding:0}
.warnings li{border-left:3px solid var(--warn);padding-left:10px;margin-bottom:4px}
.warnings b{color:var(--warn)}
.reasons li{margin-bottom:2px}
details{font-size:14px}
summary{cursor:pointer;color:var(--accent);width:fit-content}
details>ul,details>div{margin-top:8px}
.scrolling{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th{color:var(--quiet);font-weight:500}
.why td{white-space:normal;color:var(--quiet)}
.what td{border-bottom:0;padding-bottom:0}
pre{font:12.5px/1.5 var(--mono);background:var(--soft);padding:10px 12px;border-radius:6px;width:max-content;
min-width:100%;overflow-wrap:normal}
code{font-family:var(--mono);font-size:.92em}
.bar{position:relative;display:flex;height:28px;background:var(--soft);border-radius:4px}
.segment{overflow:hidden;white-space:nowrap;color:var(--on);font-size:12px;line-height:28px;text-align:center;
font-variant-numeric:tabular-nums;box-shadow:inset -1px 0 0 var(--card)}
.segment:first-child{border-radius:4px 0 0 4px}
.weights{background:var(--weights)}
.cache{background:var(--cache)}
.activation{background:repeating-linear-gradient(45deg,#0000 0 5px,#0003 5px 7px),var(--activation)}
.graphs{background:repeating-linear-gradient(0deg,#0000 0 4px,#0003 4px 6px),var(--graphs)}
.outside{background:radial-gradient(#0004 1.2px,#0000 1.6px) 0 0/6px 6px,var(--outside)}
.unused{background:var(--soft);color:var(--quiet);box-shadow:inset 0 0 0 1px var(--line)}
.budget{position:absolute;top:-4px;bottom:-4px;width:2px;margin-left:-1px;background:var(--text)}
.legend{list-style:none;padding:0;margin:8px 0 2px;display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;
font-variant-numeric:tabular-nums}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
footer{color:var(--quiet);font-size:13px}
.hue0{--h:214}.hue1{--h:28}.hue2{--h:158}.hue3{--h:285}.hue4{--h:345}.hue5{--h:188}.hue6{--h:52}.hue7{--h:100}
svg text{fill:var(--text);font-size:13px}
svg .quiet{fill:var(--quiet);font-size:12px}
.numa rect{fill:none;stroke:var(--quiet);stroke-dasharray:5 4}
.numa text{text-anchor:middle;fill:var(--quiet);font-size:12px}
.rail rect{fill:var(--soft);stroke:var(--line)}
.rail text{text-anchor:middle;font-size:12px;fill:var(--quiet)}
.rail.bus rect{fill:var(--text);stroke:none}
.rail.bus text{fill:var(--card);font-weight:600;letter-spacing:.02em}
.rail.unknown rect{stroke-dasharray:4 3}
.stem{stroke:var(--quiet);stroke-width:1.5;fill:none}
.stem.bus{stroke:var(--text);stroke-width:4}
.spine{stroke:var(--quiet);stroke-width:1.5;fill:none}
.bond path{stroke:var(--text);stroke-width:5;fill:none}
.bond text{text-anchor:middle;font-size:11px;font-weight:600}
.gpu .empty{fill:var(--card)}
.gpu .edge{fill:none;stroke:var(--quiet);stroke-width:1.2}
.gpu:has(.empty) .edge{stroke-dasharray:4 3}
.gpu .index{font-size:12px;fill:var(--quiet)}
.gpu .fill{fill:hsl(var(--h) 60% var(--fill))}
.gpu .stripe{fill:hsl(var(--h) 60% var(--strong))}
.gpu .name{font-weight:600;font-size:13px}
.gpu .letter{text-anchor:end;font-weight:700;font-size:14px;fill:hsl(var(--h) 60% var(--strong))}
@media (max-width:900px){.columns{grid-template-columns:minmax(0,1fr);gap:20px}
.figures{max-width:560px;position:static}}
@media (max-width:520px){body{padding:20px 12px 32px}section.hosts{padding:16px 14px 18px;border-radius:8px}
dl{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media print{:root{color-scheme:light;--page:#fff;--card:#fff;--text:#111;--quiet:#444;--line:#bbb;--soft:#eee;
--accent:#111;--bad:#8a1a14;--bad-soft:#fff;--warn:#5c3a00;--fill:93%;--strong:36%}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{max-width:none;padding:0;font-size:13px}nav,.skip{display:none}
section.hosts{break-inside:auto;border:0;border-top:1px solid var(--line);border-radius:0;padding:12px 0}
.columns{grid-template-columns:minmax(0,1fr);gap:12px}.figures{max-width:11cm;position:static}
.instance,figure{break-inside:avoid}
details::details-content{content-visibility:visible;display:block}.scrolling{overflow:visible}
pre{white-space:pre-wrap;width:auto}}
"""
