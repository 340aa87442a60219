// The way of a traced packet over the map: which nodes, in which order, and where it ends.  Pure.

import { ids } from "./graph.mjs";

const CONTAINER = /^container (.+)$/;

// Nodes of one direction: {nodes: [ids], end: id of the last hop's node}.  `packet`: "A -> B ...", its addresses;
// `home`: the node where an answer arrives after its last hop.
export function path(model, steps, packet, home = "") {
  const places = steps.map((step) => place(model, step));
  const last = placeOf(model, home) ?? hostOf(model, home);
  if (last) places.push(last);
  const visited = places.filter((each, n) => places[n - 1]?.id !== each.id);
  // A bridge passes frames on by itself: the host is on the way only where it routes, or is an end.
  const met = visited.filter((each, n) => each.kind !== "self" || !shared(visited[n - 1], visited[n + 1]));
  const nodes = [];
  met.forEach((now, n) => {
    const before = met[n - 1];
    const way = before ? between(model, before, now, packet.split(" ")) : [];
    for (const id of [...way, now.id]) if (id && nodes.at(-1) !== id) nodes.push(id);
  });
  return { nodes, end: places.at(-1)?.id ?? "" };
}

function place(model, step) {
  const host = step.host || [...model.engines.keys()][0];
  const name = CONTAINER.exec(step.where)?.[1];
  const found = model.hosts().find((h) => h.name === host);
  const container = name && found?.containers.find((c) => c.Name === name);
  return container ? ofContainer(found, container) : { kind: "self", host, id: ids.self(host) };
}

function placeOf(model, id) {
  for (const host of model.hosts())
    for (const container of host.containers) if (ids.container(host.name, container.id) === id) return ofContainer(host, container);
  return null;
}

function hostOf(model, id) {
  const host = model.hosts().find((h) => ids.self(h.name) === id)?.name;
  return host && { kind: "self", host, id };
}

function ofContainer(found, container) {
  const shown = new Set(found.networks.map((n) => n.id));
  const ends = container.endpoints.filter((e) => shown.has(e.Network));
  return { kind: "container", host: found.name, ends, id: ids.container(found.name, container.id) };
}

// The network that both are on, if they are containers of one host.
function shared(before, after) {
  if (before?.kind !== "container" || after?.kind !== "container" || before.host !== after.host) return "";
  const theirs = after.ends.map((e) => e.Network);
  return before.ends.find((e) => theirs.includes(e.Network))?.Network ?? "";
}

// What lies between two places, both left out.
function between(model, before, now, addresses) {
  const bar = (side) => {
    if (side.kind !== "container") return "";
    const named = side.ends.find((e) => e.Addresses.some((a) => addresses.includes(a.split("/")[0])));
    const way = named ?? side.ends.find((e) => e.DefaultRoute) ?? side.ends[0];
    const network = shared(before, now) || way?.Network;
    return network ? ids.network(side.host, network) : "";
  };
  if (before.host === now.host) return [bar(before), bar(now)];
  return [bar(before), ...wire(model, before.host, now.host), bar(now)];
}

function wire(model, from, to) {
  const interfaces = (name) => model.lab?.hosts.find((h) => h.name === name)?.interfaces ?? [];
  for (const ours of interfaces(from))
    for (const theirs of interfaces(to))
      if (ours.segment === theirs.segment)
        return [ids.nic(from, ours.name), ids.segment(ours.segment), ids.nic(to, theirs.name)];
  return [];
}
