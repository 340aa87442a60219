// The map, by cytoscape: nodes and edges of graph.mjs at the places of layout.mjs.  All of it can be reached by keys.

import cytoscape from "./cytoscape.esm.min.mjs";
import { setText } from "./dom.mjs";
import { graph, ids, shape } from "./graph.mjs";
import { layout } from "./layout.mjs";
import { rate } from "./model.mjs";
import { path } from "./path.mjs";

const MARGIN = 24; // pixels around the whole
const STEP = 1.25; // of a zoom by key
const ASIDE = 9; // pixels between a link and the way of a packet along it
const BARS = ["network", "segment"];
const HANGING = ["container", "nic"]; // from bars
const NAVIGABLE = "node[kind != 'port']";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Chart extends EventTarget {
  #root;
  #model;
  #announced;
  #cy;
  #shape = "";
  #places = new Map();
  #drawing = false;
  #again = false;
  #selected = "";
  #fitted = true; // until the user moves the map

  // `announced`: an element whose text is read aloud.
  constructor(root, announced, model) {
    super();
    this.#root = root;
    this.#announced = announced;
    this.#model = model;
    this.#cy = cytoscape({
      container: root, style: style(), autoungrabify: true, boxSelectionEnabled: false, minZoom: 0.05, maxZoom: 4,
      hideEdgesOnViewport: false, textureOnViewport: false, pixelRatio: "auto",
    });
    this.#cy.on("tap", "node", (event) => this.#choose(event.target.id(), true));
    this.#cy.on("dragpan scrollzoom pinchzoom", () => { this.#fitted = false; });
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("focus", () => this.#announce());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#cy.style(style()));
    new ResizeObserver(() => this.#resized()).observe(root);
    model.addEventListener("change", () => this.draw());
    model.addEventListener("traffic", () => this.#traffic());
  }

  get cy() {
    return this.#cy;
  }

  // Draw what the model has; a change while a layout is worked out is drawn after it.
  async draw() {
    if (this.#root.hidden) return;
    if (this.#drawing) {
      this.#again = true;
      return;
    }
    this.#drawing = true;
    try {
      do {
        this.#again = false;
        const found = graph(this.#model);
        const now = shape(found);
        if (now !== this.#shape) {
          this.#places = await layout(found);
          this.#shape = now;
        }
        this.#apply(found);
      } while (this.#again);
    } finally {
      this.#drawing = false;
    }
  }

  #apply(found) {
    const cy = this.#cy;
    const wanted = new Set([...found.nodes, ...found.edges].map((each) => each.id));
    const before = cy.nodes().length;
    cy.batch(() => {
      cy.elements().filter((each) => !wanted.has(each.id()) && !each.hasClass("way")).remove();
      for (const node of found.nodes) this.#node(node);
      for (const edge of found.edges) this.#edge(edge);
    });
    if (this.#fitted && cy.nodes().length !== before) this.fit();
    this.#traffic();
    this.#redrawWay();
    if (!wanted.has(this.#selected)) this.#selected = "";
  }

  #node({ id, kind, label, parent, width, height, classes, about, container }) {
    const { x, y, width: wide } = this.#places.get(id) ?? { x: 0, y: 0 };
    const data = { id, kind, label, parent, width: wide ?? width, height, about, container };
    const position = { x, y };
    const known = this.#cy.getElementById(id);
    const all = [kind, ...classes, ...(id === this.#selected ? ["chosen"] : [])].join(" ");
    if (known.empty()) this.#cy.add({ group: "nodes", data, position, classes: all });
    else {
      known.data(data);
      known.classes(all);
      if (kind !== "host") known.position(position);
    }
  }

  #edge({ id, source, target, kind, label, endpoint, classes }) {
    const known = this.#cy.getElementById(id);
    if (this.#cy.getElementById(source).empty() || this.#cy.getElementById(target).empty()) return;
    const data = { id, source, target, kind, label, endpoint, width: 1.5, from: "outside-to-node", ...this.#bend(kind, source, target) };
    if (known.empty()) this.#cy.add({ group: "edges", data, classes: [kind, ...classes].join(" ") });
    else {
      known.data({ from: data.from });
      known.classes([kind, ...classes].join(" "));
    }
  }

  // A link leaves its bar straight above or below the container, where the bar is that wide.
  #bend(kind, source, target) {
    if (kind !== "link" && kind !== "wire") return {};
    const [bar, node] = [source, target].map((id) => this.#cy.getElementById(id));
    const down = Math.sign(node.position("y") - bar.position("y"));
    return { from: `${alongside(bar, node)}px ${(down * bar.data("height")) / 2}px` };
  }

  #traffic() {
    if (this.#root.hidden) return;
    this.#cy.batch(() => {
      for (const edge of this.#cy.edges(".link")) {
        const found = this.#model.rates.get(edge.data("endpoint"));
        const bytes = found ? found.in + found.out : 0;
        const width = bytes ? Math.min(9, 2 + Math.log10(1 + bytes)) : 1.5;
        const dropped = found?.dropped ? ` ✗ ${found.dropped.toFixed(0)}/s` : "";
        const label = bytes || dropped ? `${rate(bytes)}${dropped}` : "";
        if (edge.data("label") !== label) edge.data({ label, width });
        edge.toggleClass("busy", bytes > 0);
        edge.toggleClass("dropping", Boolean(dropped));
      }
    });
  }

  #resized() {
    if (this.#root.hidden) return;
    this.#cy.resize();
    if (this.#fitted) this.fit();
    if (!this.#shape) this.draw();
  }

  fit() {
    this.#fitted = true;
    this.#cy.fit(undefined, MARGIN);
    if (this.#cy.zoom() > 1.25) {
      this.#cy.zoom(1.25);
      this.#cy.center();
    }
  }

  zoom(factor) {
    this.#fitted = false;
    this.#cy.zoom({ level: this.#cy.zoom() * factor, renderedPosition: { x: this.#cy.width() / 2, y: this.#cy.height() / 2 } });
  }

  // keys

  #key(event) {
    const act = {
      "+": () => this.zoom(STEP), "-": () => this.zoom(1 / STEP), 0: () => this.fit(),
      Enter: () => this.#open(), f: () => this.#end("from"), t: () => this.#end("to"), Home: () => this.#choose(this.#order()[0]?.id()),
      ...Object.fromEntries(Object.entries(ARROWS).map(([name, way]) => [name, () => this.#move(...way)])),
    }[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  }

  #order() {
    return this.#cy.nodes(NAVIGABLE).toArray();
  }

  // To the nearest node in that direction; what lies aside counts double.
  #move(right, down) {
    const from = this.#cy.getElementById(this.#selected);
    if (from.empty()) {
      this.#choose(this.#order()[0]?.id());
      return;
    }
    const at = from.position();
    let best = null;
    for (const node of this.#cy.nodes(NAVIGABLE).not(from).not(".host")) {
      const [dx, dy] = [node.position("x") - at.x, node.position("y") - at.y];
      const ahead = dx * right + dy * down;
      const aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (ahead > 1 && aside <= 3 * ahead && (!best || ahead + 2 * aside < best.cost)) best = { cost: ahead + 2 * aside, node };
    }
    if (best) this.#choose(best.node.id());
  }

  #choose(id, byPointer = false) {
    if (!id) return;
    this.#cy.getElementById(this.#selected).removeClass("chosen");
    this.#selected = id;
    const node = this.#cy.getElementById(id).addClass("chosen");
    this.#announce();
    if (byPointer) this.#open();
    else this.#reveal(node);
  }

  // Select what was opened elsewhere.
  show(host, id) {
    const node = this.#cy.getElementById(ids.container(host, id));
    if (node.nonempty() && node.id() !== this.#selected) this.#choose(node.id());
  }

  #reveal(node) {
    const [box, seen] = [node.renderedBoundingBox(), this.#cy.extent()];
    const { x, y } = node.position();
    const inside = x > seen.x1 && x < seen.x2 && y > seen.y1 && y < seen.y2 && box.w > 0;
    if (!inside) this.#cy.center(node);
  }

  #announce() {
    const node = this.#cy.getElementById(this.#selected);
    setText(this.#announced, node.empty() ? "nothing is chosen: arrow keys choose" : node.data("about"));
  }

  #open() {
    const container = this.#cy.getElementById(this.#selected).data("container");
    if (container) this.dispatchEvent(new CustomEvent("open", { detail: container }));
  }

  #end(end) {
    const node = this.#cy.getElementById(this.#selected);
    const name = node.data("container")?.name ?? (node.data("kind") === "self" ? this.#hostWord(node.id()) : "");
    if (name) this.dispatchEvent(new CustomEvent("end", { detail: { end, name } }));
  }

  #hostWord(id) {
    return this.#model.lab ? id.slice("self ".length) : "host";
  }

  // the way of a packet

  #way = null;

  // `trace` as the server has it, or null; `from` as it was asked.
  trace(trace, from) {
    this.#way = trace && { ...trace, sender: this.#outside(from) };
    this.#redrawWay();
  }

  // Ids of the nodes of the way drawn, and where it ends.
  get way() {
    const ends = this.#cy.nodes(".way-end, .way-stop").map((n) => n.id());
    return { edges: this.#cy.edges(".way").map((e) => [e.source().id(), e.target().id()]), ends };
  }

  #redrawWay() {
    const cy = this.#cy;
    cy.batch(() => {
      cy.edges(".way").remove();
      cy.nodes(".way-end, .way-stop").removeClass("way-end way-stop");
      if (!this.#way) return;
      const { request, answer, packet, verdict, leg, sender } = this.#way;
      const there = this.#leg(sender ? [sender, ...request] : request, packet, "there");
      const back = answer.length ? this.#leg(answer, packet, "back", leg === "answer" ? "" : there.nodes[0]) : there;
      const last = cy.getElementById((leg === "answer" ? back : there).end);
      last.addClass(verdict === "DELIVERED" ? "way-end" : "way-stop");
    });
  }

  // A host of a lab without an engine has no hop of its own: the way begins there.
  #outside(from) {
    const host = from.split("@")[0];
    return this.#model.lab?.hosts.some((h) => h.name === host && !h.engine) ? { host, where: "the host", what: "" } : null;
  }

  #leg(steps, packet, name, home = "") {
    const found = path(this.#model, steps, packet, home);
    found.nodes.slice(1).forEach((target, n) => {
      const [a, b] = [this.#cy.getElementById(found.nodes[n]), this.#cy.getElementById(target)];
      if (a.empty() || b.empty()) return;
      const beside = ends(a, b, name === "there" ? ASIDE : -ASIDE);
      const [from, to] = beside ?? ["outside-to-node", "outside-to-node"];
      const data = { id: `way ${name} ${n}`, source: a.id(), target, kind: "way", label: name === "there" ? String(n + 1) : "", from, to };
      this.#cy.add({ group: "edges", data, classes: `way ${name}${beside ? "" : " bent"}` });
    });
    return found;
  }
}

// How far from its bar's middle a container's line begins.
function alongside(bar, node) {
  const reach = bar.data("width") / 2 - 6;
  return Math.max(-reach, Math.min(reach, node.position("x") - bar.position("x")));
}

// Where an edge of a way begins and ends: beside the link between a bar and what hangs from it, `aside` pixels
// from it; null elsewhere.
function ends(a, b, aside) {
  const [bar, node] = BARS.includes(a.data("kind")) ? [a, b] : [b, a];
  if (!(BARS.includes(bar.data("kind")) && HANGING.includes(node.data("kind")))) return null;
  const down = Math.sign(b.position("y") - a.position("y"));
  const at = (each, side) => `${each === bar ? alongside(bar, node) + aside : aside}px ${(side * each.data("height")) / 2}px`;
  return [at(a, down), at(b, -down)];
}

// Colours are those of page.css.
function style() {
  const found = getComputedStyle(document.documentElement);
  const c = (name) => found.getPropertyValue(`--${name}`).trim();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const font = { "font-family": "system-ui, sans-serif", "font-size": 12, color: c("text") };
  const box = { ...font, label: "data(label)", "text-valign": "center", "text-halign": "center", "text-wrap": "wrap", width: "data(width)", height: "data(height)", "background-color": c("page"), "border-width": 2, "border-color": c("line") };
  return [
    { selector: "core", style: { "active-bg-opacity": 0, "selection-box-opacity": 0 } },
    { selector: "node", style: { ...box, "overlay-opacity": 0, "transition-duration": still ? "0s" : "0.2s" } },
    { selector: ".host", style: { shape: "round-rectangle", "background-color": c("panel"), "text-valign": "top", "text-margin-y": -4, "font-size": 15, "font-weight": "bold", padding: "22px", "text-wrap": "none" } },
    { selector: ".host.plain", style: { "border-style": "dashed" } },
    { selector: ".self", style: { shape: "hexagon", "border-color": c("faint") } },
    { selector: ".nic", style: { shape: "rectangle", "border-width": 1, "font-size": 11 } },
    { selector: ".segment", style: { shape: "round-rectangle", "background-color": c("network"), "border-color": c("network"), color: c("page") } },
    { selector: ".network", style: { shape: "round-rectangle", "background-color": c("network"), "border-color": c("network"), color: c("page") } },
    { selector: ".container", style: { shape: "round-rectangle", "border-color": c("container") } },
    { selector: ".port", style: { shape: "rectangle", "border-width": 0, "background-opacity": 0, "font-size": 11, color: c("faint") } },
    { selector: ".stopped", style: { "border-style": "dashed", "border-color": c("line"), color: c("faint") } },
    { selector: ".warn", style: { "border-color": c("warn"), "border-width": 3 } },
    { selector: ".bad", style: { "border-color": c("bad"), "border-width": 4, "border-style": "double" } },
    { selector: ".chosen", style: { "outline-width": 3, "outline-offset": 3, "outline-color": c("focus"), "outline-opacity": 1 } },
    { selector: ".way-end", style: { "border-color": c("container"), "border-width": 5 } },
    { selector: ".way-stop", style: { "border-color": c("bad"), "border-width": 6, "border-style": "double" } },
    { selector: "edge", style: { width: "data(width)", "line-color": c("line"), "curve-style": "straight", "overlay-opacity": 0, ...font, "font-size": 10, label: "data(label)", "text-rotation": "autorotate", "text-background-color": c("panel"), "text-background-opacity": 0.9, "text-background-padding": 1 } },
    { selector: ".link, .wire", style: { "source-endpoint": "data(from)" } },
    { selector: ".inner", style: { width: 1.5 } },
    { selector: ".wire", style: { width: 2, "line-color": c("network") } },
    { selector: ".tunnel", style: { width: 2, "line-color": c("network"), "line-style": "dashed", "curve-style": "unbundled-bezier" } },
    { selector: ".busy", style: { "line-color": c("container") } },
    { selector: ".dropping", style: { "line-color": c("bad"), "line-style": "dashed" } },
    { selector: ".way", style: { width: 4, "line-color": c("warn"), "target-arrow-shape": "triangle", "target-arrow-color": c("warn"), "text-rotation": "none", "source-endpoint": "data(from)", "target-endpoint": "data(to)", "z-index": 10, "font-size": 13, "font-weight": "bold" } },
    { selector: ".way.bent", style: { "curve-style": "unbundled-bezier", "control-point-distances": 14, "control-point-weights": 0.5 } },
    { selector: ".way.back", style: { "line-style": "dashed", width: 2.5 } },
  ];
}
