// Where hosts and segments are: by ELK, in a worker.  Within a host the groups are packed, within a group
// places are those of graph.mjs.

import "./elk-api.js"; // sets globalThis.ELK

const PADDING = 22; // around the groups of a host, pixels
const TITLE = 30; // above them
const SIDE_BY_SIDE = 6; // hosts of a layer; more are packed in rows
const LEVEL = 54; // between segments
const OVER = 40; // by which a segment is wider than what is on it
const elk = new globalThis.ELK({ workerUrl: "elk-worker.min.js" });

// id of each node that has a place -> {x, y, width?}: its centre, and how wide a segment is.
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
    const [source, target] = [edge.source, `host ${edge.target.split(" ")[1]}`];
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
  for (const child of root.children)
    for (const group of child.children ?? []) corners.set(group.id, { x: child.x + group.x, y: child.y + group.y });
  for (const node of found.nodes) {
    const corner = corners.get(node.group);
    if (corner) places.set(node.id, { x: corner.x + node.place.x, y: corner.y + node.place.y });
  }
  const top = Math.min(...root.children.filter((c) => c.children).map((c) => c.y));
  segmentsOver(found, places, top - TITLE);
  return places;
}

// Segments are bars above all hosts, from the first to the last interface on them.
function segmentsOver(found, places, top) {
  const segments = found.nodes.filter((n) => n.kind === "segment");
  segments.forEach((segment, n) => {
    const on = found.edges.filter((e) => e.source === segment.id).map((e) => places.get(e.target).x);
    const [left, right] = on.length ? [Math.min(...on), Math.max(...on)] : [0, 0];
    const width = Math.max(segment.width, right - left + 2 * OVER);
    places.set(segment.id, { x: (left + right) / 2, y: top - (segments.length - n) * LEVEL, width });
  });
}
