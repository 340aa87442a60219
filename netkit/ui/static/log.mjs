// What happened since the page was opened, the newest first, within a bound.

import { element } from "./dom.mjs";

const MOST = 200;

export class Log {
  #root;

  constructor(root, model) {
    this.#root = root;
    model.addEventListener("change", (event) => event.detail.forEach((text) => this.add(text)));
  }

  add(text) {
    const now = new Date().toTimeString().slice(0, 8);
    this.#root.prepend(element("li", { textContent: `${now} ${text}` }));
    while (this.#root.children.length > MOST) this.#root.lastElementChild.remove();
  }
}
