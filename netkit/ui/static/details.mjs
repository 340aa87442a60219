// One container: what the stream knows of it, and what is asked when it is opened.

import { element, setText, sync } from "./dom.mjs";
import { driftText, portText, rate, stateText } from "./model.mjs";
import { ask } from "./stream.mjs";

export class Details {
  #root;
  #model;
  #actions;
  #shown = null; // {host, id}
  #back = null; // what had the focus before
  #parts = {};

  // `actions`: label -> what is called with the container; "" as its result keeps the panel.
  constructor(root, model, actions) {
    this.#root = root;
    this.#model = model;
    this.#actions = actions;
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    for (const kind of ["change", "traffic"]) model.addEventListener(kind, () => this.#draw());
  }

  get shown() {
    return this.#shown;
  }

  open(host, id, { focus = true } = {}) {
    const container = this.#model.container(host, id);
    if (!container) return;
    if (focus && !this.#root.contains(document.activeElement)) this.#back = document.activeElement;
    this.#shown = { host, id };
    this.#build(container);
    this.#root.hidden = false;
    this.#draw();
    if (focus) this.#root.focus();
    this.#root.dispatchEvent(new CustomEvent("shown", { detail: this.#shown }));
    this.#fetch();
  }

  close() {
    this.#root.hidden = true;
    this.#shown = null;
    this.#back?.focus();
    this.#back = null;
    this.#root.dispatchEvent(new CustomEvent("shown", { detail: null }));
  }

  #build(container) {
    const button = (label, onclick) => element("button", { type: "button", textContent: label, onclick });
    const text = (title) => {
      const pre = element("pre", { tabIndex: 0, textContent: "...", "aria-label": title });
      return [pre, element("h3", { textContent: title }), pre];
    };
    const [rules, ...rulesPart] = text("Who may reach it");
    const [explained, ...explainedPart] = text("Published ports, explained");
    const [logs, ...logsPart] = text("Last lines of its output");
    const facts = element("dl");
    this.#parts = { facts, rules, explained, logs };
    this.#root.replaceChildren(
      element("h2", { id: "details-title", textContent: `${container.Name} on ${container.host}` }),
      element("p", { className: "actions" },
        ...Object.entries(this.#actions).map(([label, act]) =>
          button(label, () => act(this.#model.container(container.host, container.id) ?? container))),
        button("Ask again", () => this.#fetch()), button("Close", () => this.close())),
      facts, ...rulesPart, ...explainedPart, ...logsPart,
    );
  }

  #draw() {
    if (!this.#shown) return;
    const container = this.#model.container(this.#shown.host, this.#shown.id);
    const facts = container ? this.#facts(container) : [["State", "removed"]];
    const lines = facts.flatMap(([name, value]) => [["dt", name, name], ["dd", `${name}=`, value]]);
    sync(this.#parts.facts, lines, ([, key]) => key, ([kind]) => element(kind), (at, [, , value]) => setText(at, value));
  }

  #facts(container) {
    const found = [
      ["State", [stateText(container), container.Status].filter(Boolean).join(", ")],
      ["Image", container.Image || "not known here"],
    ];
    for (const drift of this.#model.drift(container.host, "Container", container.Name))
      found.push(["Not as it should be", driftText(drift)]);
    for (const e of container.endpoints) {
      const network = this.#model.engines.get(container.host)?.Networks[e.Network]?.Name ?? e.Network;
      const moved = this.#model.rates.get(`${container.host}/${e.id}`) ?? { in: 0, out: 0, dropped: 0 };
      found.push([
        `On ${network}`,
        [e.Interface, ...e.Addresses, e.MacAddress, e.Gateway && `gateway ${e.Gateway}`,
          `in ${rate(moved.in)}, out ${rate(moved.out)}`, ...e.Ports.map(portText)].filter(Boolean).join(" · "),
      ]);
    }
    return found;
  }

  async #fetch() {
    const { host, id } = this.#shown;
    const query = new URLSearchParams({ engine: host, id });
    const here = this.#parts;
    const fill = (pre, found, words) => setText(pre, found.join("\n") || words);
    await Promise.all([
      ask(`container?${query}`).then((found) => {
        fill(here.rules, found.Rules.slice(1).filter(Boolean), "nothing is known of it");
        fill(here.explained, found.Explained, "no port is published");
      }, (error) => [here.rules, here.explained].forEach((pre) => setText(pre, error.message))),
      ask(`logs?${query}`).then((text) => setText(here.logs, text || "nothing"), (error) => setText(here.logs, error.message)),
    ]);
  }
}
