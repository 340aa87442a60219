// Server-sent events into the model.  The browser connects again by itself, and begins with all.

const KINDS = ["state", "change", "traffic", "links", "lab"];

export function follow(model, report) {
  const stream = new EventSource("events");
  for (const kind of KINDS) {
    stream.addEventListener(kind, (event) => {
      const content = JSON.parse(event.data);
      if (kind === "lab") model.dispatchEvent(new CustomEvent("lab", { detail: content }));
      else model[kind](content);
      if (kind === "state") report("");
    });
  }
  stream.onerror = () => report("the connection to `netkit ui` is lost: what is shown is old");
  addEventListener("pagehide", () => stream.close());
  return stream;
}

// The JSON of an answer; Error with the server's reason.
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  };
  const answer = await fetch(path, options);
  const kind = answer.headers.get("Content-Type") ?? "";
  const found = kind.includes("json") ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(found.message ?? found);
  return found;
}
