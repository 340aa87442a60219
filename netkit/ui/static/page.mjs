import { $, setText } from "./dom.mjs";
import { Details } from "./details.mjs";
import { LabPanel } from "./lab.mjs";
import { List } from "./list.mjs";
import { Log } from "./log.mjs";
import { Chart } from "./map.mjs";
import { Model } from "./model.mjs";
import { ShellPanel } from "./shell-panel.mjs";
import { follow } from "./stream.mjs";
import { Tracer } from "./trace.mjs";

const model = new Model();
const shell = new ShellPanel();
const tracer = new Tracer($("trace"), $("trace-result"), $("names"), model);
const details = new Details($("details"), model, {
  Shell: (container) => shell.open(container),
  "Trace from here": (container) => tracer.set("from", container.Name),
  "Trace to here": (container) => tracer.set("to", container.Name),
});
const list = new List($("list"), model, (host, id) => details.open(host, id));
const chart = new Chart($("map"), $("chosen"), model);
new Log($("log"), model);
new LabPanel(model, (check) => tracer.ask(check.source, check.target + (check.where ? `@${check.where}` : ""), check.port ? `${check.port}/${check.protocol}` : check.protocol));

chart.addEventListener("open", ({ detail }) => details.open(detail.host, detail.id));
chart.addEventListener("end", ({ detail }) => tracer.set(detail.end, detail.name));
tracer.addEventListener("traced", ({ detail }) => chart.trace(detail?.trace ?? null, detail?.asked.from ?? ""));
$("details").addEventListener("shown", ({ detail }) => detail && chart.show(detail.host, detail.id));

// Two views of the same: the one that is not shown is not drawn either.
function show(name) {
  for (const each of ["map", "list"]) {
    $(`show-${each}`).setAttribute("aria-pressed", String(each === name));
    $(each).hidden = each !== name;
  }
  $("map-view").hidden = name !== "map";
  localStorage.setItem("view", name);
  (name === "map" ? chart : list).draw();
}
for (const each of ["map", "list"]) $(`show-${each}`).addEventListener("click", () => show(each));

model.addEventListener("change", () => {
  const hosts = model.hosts();
  const count = (what) => hosts.reduce((sum, h) => sum + h[what].length, 0);
  const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  setText($("summary"), [many(hosts.length, "host"), many(count("networks"), "network"), many(count("containers"), "container")].join(", "));
});

show(localStorage.getItem("view") === "list" ? "list" : "map");
const stream = follow(model, (problem) => setText($("problems"), problem));

globalThis.netkit = { model, chart, stream }; // for tests, and for who looks into it
