// A lab: up, check and down, how they go on, and the checks as a matrix for each service, with the reasons.

import { $, element, setText, sync } from "./dom.mjs";
import { ask } from "./stream.mjs";

const LEGEND = "✓ answers · silent as expected ✗ no answer ! LEAK ? undetermined";
const WORDS = { "✓": "answers, as expected", "·": "silent, as expected", "✗": "should answer and does not", "!": "LEAK: should be silent and answers", "?": "undetermined" };

export class LabPanel {
  #model;
  #trace;

  // `trace(check)` is called where a cell is chosen.
  constructor(model, trace) {
    this.#model = model;
    this.#trace = trace;
    model.addEventListener("change", () => this.#draw());
    const form = $("impair");
    const impair = (words) => this.#start("impair", { link: form.elements.link.value, words });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      impair(form.elements.words.value);
    });
    form.elements.clear.addEventListener("click", () => impair("none"));
    model.addEventListener("lab", (event) => this.#work(event.detail));
  }

  #draw() {
    const { lab } = this.#model;
    $("lab").hidden = !lab;
    if (!lab) return;
    setText($("lab-title"), `Lab ${lab.name}`);
    setText($("lab-summary"), lab.summary);
    sync($("lab-verbs"), lab.verbs, (v) => v,
      (verb) => element("button", { type: "button", textContent: verb, onclick: () => this.#start(verb) }), () => {});
    sync($("impair").elements.link, lab.links, (l) => l, (link) => element("option", { textContent: link }), () => {});
  }

  async #start(verb, more = {}) {
    try {
      await ask("lab", { verb, ...more });
    } catch (error) {
      setText($("lab-standing"), `✗ ${error.message}`);
    }
  }

  #work({ Verb, State, Lines, Message, Checks }) {
    for (const button of document.querySelectorAll("#lab-verbs button, #impair button")) button.disabled = State === "running";
    const mark = { running: "…", done: "✓", failed: "✗" }[State];
    setText($("lab-standing"), `${mark} ${Verb}: ${Message ?? "in progress"}`);
    $("lab-lines").hidden = Lines.length === 0;
    setText($("lab-lines"), Lines.join("\n"));
    if (State !== "running" && Verb !== "impair") $("lab-checks").replaceChildren(...(Checks ? this.#matrices(Checks) : []));
  }

  #matrices(checks) {
    const services = Map.groupBy(checks, (c) => (c.port ? `${c.protocol}/${c.port}` : c.protocol));
    const wrong = checks.filter((c) => c.result !== "pass");
    return [
      ...[...services].map(([service, found]) => this.#matrix(service, found)),
      element("p", { textContent: LEGEND }),
      ...(wrong.length ? [element("h3", { textContent: "What does not hold" }), element("ul", {}, ...wrong.map(reason))] : []),
    ];
  }

  #matrix(service, checks) {
    const target = (c) => c.target + (c.where ? `@${c.where}` : "");
    const columns = [...new Set(checks.map(target))];
    const rows = [...Map.groupBy(checks, (c) => c.source)];
    const cell = (found) => element("td", {}, ...(found ?? []).map((c) => this.#cell(c)));
    const table = element(
      "table", { className: "matrix" }, element("caption", { textContent: service }),
      element("thead", {}, element("tr", {}, element("td"), ...columns.map((c) => element("th", { scope: "col", textContent: c })))),
      element("tbody", {}, ...rows.map(([source, found]) =>
        element("tr", {}, element("th", { scope: "row", textContent: source }), ...columns.map((c) => cell(found.filter((f) => target(f) === c)))))),
    );
    return element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": `checks of ${service}` }, table);
  }

  #cell(check) {
    const words = `${check.source} to ${check.target}: ${WORDS[check.glyph]}`;
    return element("button", {
      type: "button", textContent: check.glyph, title: [words, check.reason, check.control].filter(Boolean).join("; "), "aria-label": words,
      className: check.result, onclick: () => this.#trace(check),
    });
  }
}

const reason = (c) =>
  element("li", {}, `${c.glyph} ${c.source} → ${c.target} ${c.protocol}${c.port ? `/${c.port}` : ""}: expected ${c.expected}, observed ${c.observed ?? "nothing"}`,
    ...[c.reason, c.control, c.trace].filter(Boolean).flatMap((text) => [element("br"), text]));
