// The state of all engines, as the stream of changes has it; and what follows from it for each view.

const PARTS = ["Networks", "Endpoints", "Containers", "Repaired"];
const RATE_SECONDS = 1; // over which traffic is averaged
const REPAIR_SHOWN = 10_000; // milliseconds that a repair is marked on its host
const QUIET_DRIVERS = new Set(["host", "null"]); // networks that are shown where something is on them

export class Model extends EventTarget {
  engines = new Map(); // name -> {Networks, Endpoints, Containers, Repaired: by id; Drift, Problem}
  rates = new Map(); // "engine/endpoint" -> {in, out, dropped}: bytes, bytes and packets a second
  repaired = new Map(); // engine -> {at: performance.now(), what: "links"}
  lab = null; // the document of a lab
  impaired = {}; // links of a lab: {Impaired, Drift}
  #moved = new Map(); // engine -> {seconds, by endpoint}

  state({ Engines, Lab }) {
    this.engines = new Map(Object.entries(Engines));
    this.lab = Lab ?? null;
    this.rates.clear();
    this.#changed([]);
  }

  change({ Engine, ...content }) {
    const engine = this.engines.get(Engine);
    const events = [];
    for (const [part, value] of Object.entries(content)) {
      if (PARTS.includes(part)) this.#merge(Engine, engine, part, value, events);
      else {
        engine[part] = value;
        if (part === "Problem" && value) events.push(`${Engine}: ${value}`);
        if (part === "Drift") for (const each of value) events.push(`${Engine}: not as it should be: ${driftText(each)}`);
      }
    }
    this.#changed(events);
  }

  #merge(name, engine, part, value, events) {
    for (const [id, now] of Object.entries(value)) {
      const before = engine[part][id];
      if (part === "Repaired") {
        if (before !== undefined && now > before) {
          events.push(`${name}: repaired what another tool had changed: ${id}`);
          this.repaired.set(name, { at: performance.now(), what: id });
          setTimeout(() => this.#changed([]), REPAIR_SHOWN + 50); // the mark goes by itself
        }
      } else events.push(...describe(name, engine, part, before, now));
      if (now === null) delete engine[part][id];
      else engine[part][id] = now;
    }
  }

  // Of a lab, by HOST@INTERFACE.
  links(found) {
    const events = [];
    for (const [link, { Impaired, Drift }] of Object.entries(found)) {
      const before = this.impaired[link];
      if (Drift && Drift !== before?.Drift) events.push(`${link}: not as it should be: ${Drift}`);
      if (Impaired !== (before?.Impaired ?? "")) events.push(`${link}: ${Impaired || "no longer impaired"}`);
    }
    this.impaired = found;
    this.#changed(events);
  }

  traffic({ Engine, Seconds, Endpoints }) {
    const sum = this.#moved.get(Engine) ?? { seconds: 0, by: new Map() };
    this.#moved.set(Engine, sum);
    sum.seconds += Seconds;
    for (const [id, moved] of Object.entries(Endpoints)) {
      const to = sum.by.get(id) ?? { in: 0, out: 0, dropped: 0 };
      sum.by.set(id, to);
      to.in += moved.ReceiveBytes;
      to.out += moved.TransmitBytes;
      to.dropped += moved.ReceiveDropped + moved.TransmitDropped;
    }
    if (sum.seconds < RATE_SECONDS) return;
    for (const id of Object.keys(this.engines.get(Engine)?.Endpoints ?? {})) {
      const found = sum.by.get(id);
      const key = `${Engine}/${id}`;
      if (!found) this.rates.delete(key);
      else this.rates.set(key, perSecond(found, sum.seconds));
    }
    this.#moved.delete(Engine);
    this.dispatchEvent(new Event("traffic"));
  }

  #changed(events) {
    this.dispatchEvent(new CustomEvent("change", { detail: events }));
  }

  // [{name, engine, networks, containers}], in the order of the lab, or of the engines.
  hosts() {
    const names = this.lab ? this.lab.hosts.map((h) => h.name) : [...this.engines.keys()];
    return names.map((name) => {
      const engine = this.engines.get(name);
      const plan = this.lab?.hosts.find((h) => h.name === name);
      if (!engine) return { name, engine: null, plan, networks: [], containers: [] };
      return { name, engine, plan, networks: networksOf(engine), containers: containersOf(name, engine) };
    });
  }

  container(host, id) {
    return this.hosts().find((h) => h.name === host)?.containers.find((c) => c.id === id);
  }

  // What stands where an engine has drift that names it.
  drift(host, kind, name) {
    return (this.engines.get(host)?.Drift ?? []).filter((each) => each[kind] === name);
  }

  lately(host) {
    const found = this.repaired.get(host);
    return found && performance.now() - found.at < REPAIR_SHOWN ? found.what : "";
  }
}

const perSecond = (sum, seconds) =>
  Object.fromEntries(Object.entries(sum).map(([name, value]) => [name, value / seconds]));

export const driftText = (each) =>
  [each.Step, [each.Network, each.Container && `container ${each.Container}`].filter(Boolean).join(", "), each.Note]
    .filter(Boolean)
    .join(": ");

function describe(name, engine, part, before, now) {
  const shown = now ?? before;
  if (!shown) return [];
  if (part === "Networks") {
    if (before && now) return [];
    return [`${name}: network ${shown.Name} (${shown.Driver}) ${now ? "is there" : "was removed"}`];
  }
  if (part === "Endpoints") {
    const network = engine.Networks[shown.Network]?.Name ?? shown.Network.slice(0, 12);
    const owner = shown.Container || shown.ContainerID.slice(0, 12);
    if (before && now) return [];
    return [`${name}: ${owner} ${now ? "joined" : "left"} ${network}${now ? ` as ${now.Addresses.join(", ")}` : ""}`];
  }
  const was = before && `${before.State} ${before.Health}`.trim();
  const is = now ? `${now.State} ${now.Health}`.trim() : "removed";
  return was === is ? [] : [`${name}: container ${shown.Name} is ${is}`];
}

function networksOf(engine) {
  const used = new Set(Object.values(engine.Endpoints).map((e) => e.Network));
  return Object.entries(engine.Networks)
    .filter(([id, n]) => !QUIET_DRIVERS.has(n.Driver) || used.has(id))
    .map(([id, n]) => ({ id, ...n }))
    .sort((a, b) => a.Name.localeCompare(b.Name, undefined, { numeric: true }));
}

// Those of the engine, and those that have an endpoint and are of another engine.
function containersOf(host, engine) {
  const found = new Map(Object.entries(engine.Containers).map(([id, c]) => [id, { id, host, ...c, endpoints: [] }]));
  for (const [id, endpoint] of Object.entries(engine.Endpoints)) {
    let owner = found.get(endpoint.ContainerID);
    if (!owner) {
      const Name = endpoint.Container || endpoint.ContainerID.slice(0, 12);
      owner = { id: endpoint.ContainerID, host, Name, Image: "", State: "running", Status: "", Health: "",
        Networks: [], endpoints: [], foreign: endpoint.Engine };
      found.set(owner.id, owner);
    }
    owner.endpoints.push({ id, ...endpoint });
  }
  return [...found.values()].sort((a, b) => a.Name.localeCompare(b.Name, undefined, { numeric: true }));
}

// Words for people.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function rate(bytes) {
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${UNITS[unit]}/s`;
}

export const portText = (p) =>
  p.HostPort ? `${p.HostIP || "0.0.0.0"}:${p.HostPort}->${p.ContainerPort}/${p.Protocol}` : `${p.ContainerPort}/${p.Protocol}`;

export const published = (container) => container.endpoints.flatMap((e) => e.Ports.filter((p) => p.HostPort));

export const addresses = (container) => container.endpoints.flatMap((e) => e.Addresses);

export function stateText(container) {
  const words = [container.Health || container.State];
  if (container.foreign) words.push(`of ${container.foreign}`);
  return words.join(" ");
}

export function moved(model, container) {
  const sum = { in: 0, out: 0, dropped: 0 };
  for (const { id } of container.endpoints) {
    const found = model.rates.get(`${container.host}/${id}`);
    for (const name of Object.keys(sum)) sum[name] += found?.[name] ?? 0;
  }
  return sum;
}
