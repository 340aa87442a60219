// A terminal in a document of its own: xterm.js sets styles that the page's policy forbids.

import { FitAddon } from "./addon-fit.mjs";
import { Terminal } from "./xterm.mjs";

const LEAVE = "F6"; // the key by which the focus leaves; all others are the shell's
const at = new URL(`shell${location.search}`, location.href);
at.protocol = "ws:";

const terminal = new Terminal({ screenReaderMode: true, fontSize: 14, fontFamily: "ui-monospace, monospace", theme: { background: "#15181c", foreground: "#e8eaed" } });
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(document.getElementById("terminal"));
terminal.attachCustomKeyEventHandler((event) => {
  if (event.key !== LEAVE) return true;
  if (event.type === "keydown") parent.postMessage("leave", location.origin);
  return false;
});

const socket = new WebSocket(at);
socket.binaryType = "arraybuffer";
const ended = (text) => {
  const shown = document.getElementById("ended");
  if (!shown.textContent) shown.textContent = text;
  terminal.options.disableStdin = true;
};
const size = () => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ rows: terminal.rows, columns: terminal.cols }));
const encoder = new TextEncoder();

socket.onopen = size;
socket.onmessage = ({ data }) => {
  if (typeof data !== "string") return terminal.write(new Uint8Array(data));
  const { exit, failed } = JSON.parse(data);
  return ended(failed ?? `the shell has ended with ${exit}`);
};
socket.onclose = () => ended("the connection is closed");
terminal.onData((text) => socket.readyState === WebSocket.OPEN && socket.send(encoder.encode(text)));
terminal.onBinary((text) => socket.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
terminal.onResize(size);
new ResizeObserver(() => fit.fit()).observe(document.getElementById("terminal"));
addEventListener("focus", () => terminal.focus());
terminal.focus();
globalThis.netkit = { terminal }; // for tests
