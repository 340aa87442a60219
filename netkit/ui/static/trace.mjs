// A form for `net trace`, and its answer: the verdict, and each hop there and back.

import { element, sync } from "./dom.mjs";
import { ask } from "./stream.mjs";

const OTHERS = ["host", "world"]; // words that `net trace` knows beside containers
const MARKS = { DELIVERED: "✓", UNDETERMINED: "?" };

export class Tracer extends EventTarget {
  #form;
  #result;
  #model;
  #names;

  constructor(form, result, names, model) {
    super();
    this.#form = form;
    this.#result = result;
    this.#names = names;
    this.#model = model;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    form.elements.clear.addEventListener("click", () => this.clear());
    model.addEventListener("change", () => this.#suggest());
  }

  set(end, name) {
    this.#form.elements[end].value = name;
    const { from, to } = this.#form.elements;
    if (from.value && to.value) this.run();
  }

  ask(source, target, service) {
    const { from, to, service: given } = this.#form.elements;
    [from.value, to.value, given.value] = [source, target, service];
    this.run();
  }

  clear() {
    this.#form.reset();
    this.#result.replaceChildren();
    this.dispatchEvent(new CustomEvent("traced", { detail: null }));
  }

  async run() {
    const { from, to, service } = this.#form.elements;
    const asked = { from: from.value.trim(), to: to.value.trim(), service: service.value.trim(), engine: this.#engine(from.value) };
    if (!asked.from || !asked.to) return;
    this.#result.replaceChildren(element("p", { textContent: "asking" }));
    try {
      const { Trace, Text } = await ask("trace", asked);
      this.#show(Trace, Text);
      this.dispatchEvent(new CustomEvent("traced", { detail: { trace: Trace, asked } }));
    } catch (error) {
      this.#result.replaceChildren(element("p", { className: "failed", textContent: error.message }));
      this.dispatchEvent(new CustomEvent("traced", { detail: null }));
    }
  }

  // The host of the container that the name begins with, or the first one.
  #engine(text) {
    const name = text.trim().split(/[:@]/)[0];
    for (const host of this.#model.hosts())
      if (host.engine && (host.name === name || host.containers.some((c) => c.Name === name))) return host.name;
    return [...this.#model.engines.keys()][0] ?? "";
  }

  #suggest() {
    const hosts = this.#model.hosts();
    const names = [...hosts.flatMap((h) => h.containers.map((c) => c.Name)), ...(this.#model.lab ? hosts.map((h) => h.name) : []), ...OTHERS];
    sync(this.#names, [...new Set(names)], (n) => n, (value) => element("option", { value }), () => {});
  }

  #show(trace, text) {
    const steps = (title, list) =>
      list.length ? [element("h3", { textContent: title }), element("ol", { className: "hops" }, ...list.map(hop))] : [];
    const mark = MARKS[trace.verdict] ?? "✗";
    const verdict = element("p", { className: `verdict ${trace.verdict.toLowerCase()}` },
      `${mark} ${trace.verdict}: ${trace.words}`, ...(trace.fix ? [element("br"), `what to do: ${trace.fix}`] : []));
    this.#result.replaceChildren(
      element("p", { textContent: trace.packet }), verdict,
      ...trace.notes.map((note) => element("p", { textContent: note })),
      ...steps("There", trace.request), ...steps("Back", trace.answer),
      element("details", {}, element("summary", { textContent: "as netkit net trace prints it" }), element("pre", { tabIndex: 0, textContent: text })),
    );
  }
}

const hop = (step) =>
  element("li", {}, element("b", { textContent: [step.host, step.where].filter(Boolean).join(": ") }), ` ${step.what}: ${step.why}`);
