// Where hosts and segments are: by ELK, in a worker.  Within a host the groups are packed, within a group
// places are those of graph.mjs.

import "./elk-api.js"; // sets globalThis.ELK

const PADDING = 22; // around the groups of a host, pixels
const TITLE = 30; // above them
const SIDE_BY_SIDE = 6; // hosts of a layer; more are packed in rows
const elk = new globalThis.ELK({ workerUrl: "elk-worker.min.js" });

// id of each node that has a place -> {x, y}, its centre.
export async function layout(found) {
  const hosts = found.hosts.map((name) => ({
    id: `host ${name}`,
    layoutOptions: {
      "elk.algorithm": "rectpacking", "elk.aspectRatio": "1.6", "elk.spacing.nodeNode": "28",
      "elk.padding": `[top=${TITLE + PADDING},left=${PADDING},bottom=${PADDING},right=${PADDING}]`,
    },
    children: found.groups.filter((g) => g.host === name).map(({ id, width, height }) => ({ id, width, height })),
  }));
  const segments = found.nodes.filter((n) => n.kind === "segment").map(({ id, width, height }) => ({ id, width, height }));
  const edges = new Map();
  for (const edge of found.edges) {
    const [source, target] = [edge.target, `host ${edge.source.split(" ")[1]}`];
    if (edge.kind === "wire") edges.set(`${source} ${target}`, { id: `${source} ${target}`, sources: [source], targets: [target] });
  }
  const layered = found.hosts.length <= SIDE_BY_SIDE;
  const root = {
    id: "root",
    layoutOptions: layered
      ? { "elk.algorithm": "layered", "elk.direction": "DOWN", "elk.spacing.nodeNode": "60", "elk.layered.spacing.nodeNodeBetweenLayers": "70",
          "elk.separateConnectedComponents": "true", "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES" }
      : { "elk.algorithm": "rectpacking", "elk.aspectRatio": "1.6", "elk.spacing.nodeNode": "60" },
    children: [...segments, ...hosts],
    edges: layered ? [...edges.values()] : [],
  };
  return placed(found, await elk.layout(root));
}

function placed(found, root) {
  const corners = new Map();
  const places = new Map();
  for (const child of root.children) {
    if (!child.children) places.set(child.id, { x: child.x + child.width / 2, y: child.y + child.height / 2 });
    for (const group of child.children ?? []) corners.set(group.id, { x: child.x + group.x, y: child.y + group.y });
  }
  for (const node of found.nodes) {
    const corner = corners.get(node.group);
    if (corner) places.set(node.id, { x: corner.x + node.place.x, y: corner.y + node.place.y });
  }
  return places;
}
