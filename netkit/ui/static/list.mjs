// The list: everything that the map has, as headings and tables.

import { element, setText, sync } from "./dom.mjs";
import { addresses, driftText, moved, portText, published, rate, stateText } from "./model.mjs";

const COLUMNS = ["Container", "State", "Addresses", "Published ports", "Received", "Sent", "Dropped"];

export class List {
  #root;
  #model;
  #open;

  // `open(container)` is called where one is chosen.
  constructor(root, model, open) {
    this.#root = root;
    this.#model = model;
    this.#open = open;
    model.addEventListener("change", () => this.draw());
    model.addEventListener("traffic", () => this.draw());
  }

  draw() {
    if (this.#root.hidden) return;
    sync(this.#root, this.#model.hosts(), (h) => h.name, (h) => this.#host(h), (at, h) => this.#update(at, h));
  }

  #host(host) {
    const id = `host-${host.name}`;
    const head = element("thead", {}, element("tr", {}, ...COLUMNS.map((c) => element("th", { scope: "col", textContent: c }))));
    return element(
      "section", { "aria-labelledby": id, className: "host" },
      element("h2", { id }), element("p", { className: "standing" }), element("ul", { className: "networks" }),
      element("table", {}, element("caption", { textContent: `Containers on ${host.name}` }), head, element("tbody")),
    );
  }

  #update(section, host) {
    const [title, standing, networks, table] = section.children;
    setText(title, host.name);
    setText(standing, this.#standing(host));
    section.classList.toggle("bad", Boolean(host.engine?.Problem || host.engine?.Drift.length));
    sync(networks, host.networks, (n) => n.id, () => element("li"), (li, n) => setText(li, this.#network(host, n)));
    table.hidden = host.containers.length === 0;
    sync(table.tBodies[0], host.containers, (c) => c.id, (c) => this.#row(c), (tr, c) => this.#cells(tr, c));
  }

  #standing(host) {
    const links = (host.plan?.interfaces ?? []).map((i) => {
      const { Impaired, Drift } = this.#model.impaired[`${host.name}@${i.name}`] ?? {};
      return [`${i.name} ${i.address}`.trim(), Impaired && `≈ ${Impaired}`, Drift && `! ${Drift}`].filter(Boolean).join(" ");
    });
    return [...links, this.#engine(host)].join("; ");
  }

  #engine(host) {
    if (!host.engine) return "no engine";
    if (host.engine.Problem) return `✗ ${host.engine.Problem}`;
    const lately = this.#model.lately(host.name);
    const words = host.engine.Drift.map((each) => `! ${driftText(each)}`);
    if (lately) words.unshift(`↻ repaired just now: ${lately}`);
    return words.join("; ") || "✓ as it should be";
  }

  #network(host, network) {
    const members = host.containers.filter((c) => c.endpoints.some((e) => e.Network === network.id)).map((c) => c.Name);
    const wrong = this.#model.drift(host.name, "Network", network.Name).length ? ", not as it should be" : "";
    const peers = network.Peers.map((p) => `${p.Name || p.IP}${p.State ? ` (${p.State})` : ""}`);
    return [
      `network ${network.Name} (${network.Driver}${network.Internal ? ", internal" : ""}${wrong})`,
      network.Subnets.map((s) => s.Subnet).join(", "),
      peers.length ? `peers: ${peers.join(", ")}` : "",
      members.length ? `with ${members.join(", ")}` : "no containers",
    ].filter(Boolean).join("; ");
  }

  #row(container) {
    const choose = element("button", { type: "button", onclick: () => this.#open(container.host, container.id) });
    return element("tr", {}, element("th", { scope: "row" }, choose), ...COLUMNS.slice(1).map(() => element("td")));
  }

  #cells(row, container) {
    setText(row.firstElementChild.firstElementChild, container.Name);
    const wrong = this.#model.drift(container.host, "Container", container.Name).length;
    const traffic = moved(this.#model, container);
    const texts = [
      stateText(container) + (wrong ? ", not as it should be" : ""),
      addresses(container).join(", "),
      published(container).map(portText).join(", "),
      rate(traffic.in), rate(traffic.out), traffic.dropped ? `${traffic.dropped.toFixed(1)} packets/s` : "none",
    ];
    texts.forEach((text, n) => setText(row.children[n + 1], text));
  }
}
