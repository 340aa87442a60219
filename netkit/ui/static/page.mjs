import { $, setText } from "./dom.mjs";
import { Details } from "./details.mjs";
import { List } from "./list.mjs";
import { Log } from "./log.mjs";
import { Model } from "./model.mjs";
import { follow } from "./stream.mjs";
import { Tracer } from "./trace.mjs";

const model = new Model();
const tracer = new Tracer($("trace"), $("trace-result"), $("names"), model);
const details = new Details($("details"), model, {
  "Trace from here": (container) => tracer.set("from", container.Name),
  "Trace to here": (container) => tracer.set("to", container.Name),
});
new List($("list"), model, (host, id) => details.open(host, id));
new Log($("log"), model);

model.addEventListener("change", () => {
  const hosts = model.hosts();
  const count = (what) => hosts.reduce((sum, h) => sum + h[what].length, 0);
  const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  setText($("summary"), [many(hosts.length, "host"), many(count("networks"), "network"), many(count("containers"), "container")].join(", "));
});

follow(model, (problem) => setText($("problems"), problem));
