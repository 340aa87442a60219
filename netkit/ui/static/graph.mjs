// What the map shows, as nodes and edges with places within their host.  Pure: a model in, plain objects out.
//
// A host is a box of groups: one for its own namespace and its interfaces, and one for each network, a bar with
// its containers in rows, so that each line from the bar passes between those of the rows nearer to it.

import { portText, published } from "./model.mjs";

export const SIZES = {
  container: [108, 38], port: [108, 16], network: [150, 26], nic: [150, 36], self: [96, 30], segment: [170, 30],
};
const PITCH = 134; // pixels between containers of a row
const GAP = 60; // between rows: the rate of a link has its place there
const ROWS = [[6, 1], [16, 2], [Infinity, 4]]; // up to so many containers of a network are in so many rows
const PREDEFINED = "bridge"; // docker0's network: left out where it is empty and there are others
const MARKS = { healthy: "✓ ", unhealthy: "✗ ", starting: "◌ " };
const MOST_PORTS = 2; // shown below a container; more are counted

export const ids = {
  host: (host) => `host ${host}`,
  self: (host) => `self ${host}`,
  nic: (host, name) => `nic ${host} ${name}`,
  network: (host, id) => `net ${host} ${id}`,
  container: (host, id) => `ctr ${host} ${id}`,
  segment: (name) => `seg ${name}`,
};

// {nodes: [{id, kind, label, parent?, place?: {x, y}, width, height, classes, about}], edges: [{id, source, target, kind, label, classes}],
//  groups: [{id, host, width, height}], hosts: [names], segments: [names]}
export function graph(model) {
  const found = { nodes: [], edges: [], groups: [], hosts: [], segments: [] };
  for (const segment of model.lab?.segments ?? []) {
    found.segments.push(segment.name);
    add(found, "segment", ids.segment(segment.name), segment.name, {});
  }
  for (const host of model.hosts()) drawHost(found, model, host);
  tunnels(found, model);
  return found;
}

function add(found, kind, id, label, more) {
  const [width, height] = SIZES[kind] ?? [0, 0];
  found.nodes.push({ id, kind, label, width, height, classes: [], about: label, ...more });
}

function drawHost(found, model, host) {
  found.hosts.push(host.name);
  const parent = ids.host(host.name);
  const lately = model.lately(host.name);
  const problem = host.engine?.Problem;
  const drift = host.engine?.Drift.length ?? 0;
  const away = model.lab && /no such socket|no process listens/.test(problem) ? "not up" : "cannot be asked";
  const marks = [problem && `✗ ${away}`, drift && "! not as it should be", lately && `↻ ${lately} repaired`].filter(Boolean);
  const classes = [problem || drift ? "bad" : "", lately ? "warn" : "", host.engine || !host.plan ? "" : "plain"].filter(Boolean);
  const label = [host.name, ...marks].join("  ");
  add(found, "host", parent, label, { classes, about: `host ${label}` });
  const members = memberships(host);
  host.networks = host.networks.filter((n) => members.has(n.id) || n.Name !== PREDEFINED || host.networks.length === 1);
  drawSelf(found, model, host, parent);
  for (const network of host.networks) drawNetwork(found, model, host, parent, network, members.get(network.id) ?? []);
  const alone = members.get("") ?? [];
  if (alone.length) drawGroup(found, model, host, parent, null, alone);
}

// Containers by the network in whose group they are: the first one of theirs that is shown.
function memberships(host) {
  const found = new Map();
  const order = new Map(host.networks.map((n, at) => [n.id, at]));
  for (const container of host.containers) {
    const on = [...container.endpoints.map((e) => e.Network), ...container.Networks].filter((id) => order.has(id));
    on.sort((a, b) => order.get(a) - order.get(b));
    const home = on[0] ?? "";
    found.set(home, [...(found.get(home) ?? []), container]);
  }
  return found;
}

// The host's own namespace, below its interfaces.
function drawSelf(found, model, host, parent) {
  const group = `group ${host.name} self`;
  const nics = host.plan?.interfaces ?? [];
  const [[selfWidth, selfHeight], [nicWidth, nicHeight]] = [SIZES.self, SIZES.nic];
  const width = Math.max(selfWidth, nics.length * (nicWidth + 8) - 8);
  const top = nics.length ? nicHeight + GAP / 2 : 0;
  const id = ids.self(host.name);
  add(found, "self", id, "host", { parent, group, place: { x: width / 2, y: top + selfHeight / 2 }, about: `host ${host.name} itself` });
  nics.forEach((nic, n) => {
    const own = ids.nic(host.name, nic.name);
    const x = (width - nics.length * (nicWidth + 8) + 8) / 2 + n * (nicWidth + 8) + nicWidth / 2;
    const { Impaired, Drift } = model.impaired[`${host.name}@${nic.name}`] ?? {};
    const title = `${nic.name} ${nic.address}`.trim();
    const second = Drift ? "! not as it should be" : Impaired && `≈ ${Impaired}`;
    const classes = Drift ? ["bad"] : Impaired ? ["warn"] : [];
    const about = [`interface ${title} of ${host.name}`, Impaired, Drift].filter(Boolean).join(", ");
    add(found, "nic", own, [title, second].filter(Boolean).join("\n"), { parent, group, place: { x, y: nicHeight / 2 }, classes, about });
    found.edges.push({ id: `${own} self`, source: own, target: id, kind: "inner", label: "", classes: [] });
    found.edges.push({ id: `${own} seg`, source: ids.segment(nic.segment), target: own, kind: "wire", label: "", classes: [] });
  });
  found.groups.push({ id: group, host: host.name, width, height: top + selfHeight });
}

function drawNetwork(found, model, host, parent, network, containers) {
  drawGroup(found, model, host, parent, network, containers);
  const id = ids.network(host.name, network.id);
  for (const container of host.containers)
    for (const endpoint of container.endpoints)
      if (endpoint.Network === network.id) found.edges.push(link(model, host, id, container, endpoint));
}

export function link(model, host, network, container, endpoint) {
  const rates = model.rates.get(`${host.name}/${endpoint.id}`);
  const classes = rates?.dropped ? ["dropping"] : rates ? ["busy"] : [];
  return {
    id: `link ${host.name} ${endpoint.id}`, source: network, target: ids.container(host.name, container.id), kind: "link",
    endpoint: `${host.name}/${endpoint.id}`, label: "", classes,
  };
}

function drawGroup(found, model, host, parent, network, containers) {
  const group = `group ${host.name} ${network?.id ?? ""}`;
  const count = ROWS.find(([most]) => containers.length <= most)[1];
  const rows = Array.from({ length: count }, () => []);
  containers.forEach((c, n) => rows[n % count].push(c));
  const tags = Math.min(MOST_PORTS, Math.max(0, ...containers.map((c) => published(c).length)));
  const high = SIZES.container[1] + tags * SIZES.port[1] + GAP;
  const columns = Math.max(1, ...rows.map((r) => r.length));
  const width = Math.max(SIZES.network[0], columns * PITCH + (count > 1 ? PITCH / 2 : 0));
  const above = count === 4 ? 2 : 0; // rows above the bar
  const bar = above * high + SIZES.network[1] / 2;
  if (network) {
    const wrong = model.drift(host.name, "Network", network.Name).length > 0;
    const subnet = network.Subnets[0]?.Subnet ?? "";
    add(found, "network", ids.network(host.name, network.id), `${wrong ? "! " : ""}${network.Name} ${subnet}`.trim(), {
      parent, group, place: { x: width / 2, y: bar }, width: Math.max(SIZES.network[0], width - PITCH / 4),
      classes: wrong ? ["bad"] : [], about: `network ${network.Name}, driver ${network.Driver}, ${subnet}, on ${host.name}`,
    });
  }
  const barHeight = network ? SIZES.network[1] / 2 : 0;
  rows.forEach((row, n) => {
    const up = n < above;
    const distance = up ? above - 1 - n : n - above; // rows between it and the bar
    const y = up ? bar - barHeight - GAP - distance * high - SIZES.container[1] / 2 - tags * SIZES.port[1]
      : bar + barHeight + (network ? GAP : 0) + distance * high + SIZES.container[1] / 2;
    row.forEach((container, column) => {
      const x = PITCH / 2 + column * PITCH + (distance % 2 ? PITCH / 2 : 0) + (width - (columns * PITCH + (count > 1 ? PITCH / 2 : 0))) / 2;
      drawContainer(found, model, container, { parent, group, place: { x, y } });
    });
  });
  const below = count - above;
  found.groups.push({ id: group, host: host.name, width, height: bar + barHeight + below * high + (network ? GAP : 0) });
}

function drawContainer(found, model, container, where) {
  const wrong = model.drift(container.host, "Container", container.Name).length > 0;
  const running = container.State === "running";
  const mark = wrong ? "! " : MARKS[container.Health] ?? "";
  const second = running ? container.endpoints[0]?.Addresses[0]?.split("/")[0] ?? "" : container.State;
  const classes = [wrong || container.Health === "unhealthy" ? "bad" : "", running ? "" : "stopped"].filter(Boolean);
  const id = ids.container(container.host, container.id);
  const label = `${mark}${shortened(container.Name)}\n${second}`;
  add(found, "container", id, label, {
    ...where, classes, about: [`container ${container.Name} on ${container.host}`, container.Health || container.State,
      ...container.endpoints.flatMap((e) => e.Addresses), wrong && "not as it should be"].filter(Boolean).join(", "),
    container: { host: container.host, id: container.id, name: container.Name },
  });
  const ports = published(container);
  const shown = ports.length > MOST_PORTS ? ports.slice(0, MOST_PORTS - 1) : ports;
  const texts = shown.map((p) => `⇥ ${p.HostPort} → ${p.ContainerPort}/${p.Protocol}`);
  if (shown.length < ports.length) texts.push(`⇥ and ${ports.length - shown.length} more`);
  texts.forEach((text, n) => {
    const y = where.place.y + SIZES.container[1] / 2 + SIZES.port[1] * (n + 0.5);
    add(found, "port", `${id} port ${n}`, text, { ...where, place: { x: where.place.x, y }, about: `published: ${portText(shown[n] ?? ports[n])}` });
  });
}

const shortened = (name) => (name.length > 16 ? `${name.slice(0, 8)}…${name.slice(-6)}` : name);

// Networks of one name on several hosts, where one has the other as a peer.
function tunnels(found, model) {
  const hosts = model.hosts().filter((h) => h.engine);
  const owner = new Map();
  for (const host of hosts) {
    owner.set(host.name, host.name);
    for (const nic of host.plan?.interfaces ?? []) owner.set(nic.address.split("/")[0], host.name);
  }
  const seen = new Set();
  for (const host of hosts)
    for (const network of host.networks)
      for (const peer of network.Peers) {
        const other = hosts.find((h) => h.name === (owner.get(peer.Name) ?? owner.get(peer.IP)) && h.name !== host.name);
        const twin = other?.networks.find((n) => n.Name === network.Name);
        const key = [host.name, other?.name].sort().join(" ") + ` ${network.Name}`;
        if (!twin || seen.has(key)) continue;
        seen.add(key);
        found.edges.push({ id: `tunnel ${key}`, source: ids.network(host.name, network.id), target: ids.network(other.name, twin.id), kind: "tunnel", label: "", classes: [] });
      }
}

// What decides about places: where this is the same, nothing moves.
export function shape(found) {
  return JSON.stringify([found.segments, found.groups, found.nodes.map((n) => [n.id, n.place]), found.edges.filter((e) => e.kind !== "link").map((e) => e.id)]);
}

