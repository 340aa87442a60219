// Where a shell is: below the map or the list, in a frame.

import { $, setText } from "./dom.mjs";

export class ShellPanel {
  #back = null; // what had the focus before

  constructor() {
    $("shell-close").addEventListener("click", () => this.close());
    addEventListener("message", (event) => {
      if (event.origin === location.origin && event.data === "leave") $("shell-close").focus();
    });
  }

  open({ host, id, Name }) {
    this.#back = document.activeElement;
    setText($("shell-title"), `Shell in ${Name} on ${host}`);
    const frame = $("shell-frame");
    frame.title = `shell in ${Name}; F6 leaves it`;
    frame.src = `shell.html?${new URLSearchParams({ engine: host, id })}`;
    frame.onload = () => frame.contentWindow.focus();
    $("shell").hidden = false;
  }

  close() {
    $("shell").hidden = true;
    $("shell-frame").onload = null;
    $("shell-frame").src = "about:blank";
    this.#back?.focus();
  }
}
