// Elements, and lists of them that are changed in place: what has the focus keeps it.

export const $ = (id) => document.getElementById(id);

// element("td", {className: "x"}, "text", child): properties, or attributes where the name has a dash or is "role".
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Children of `parent` become one for each of `items`, in order, by `key`.
export function sync(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((each) => [each.dataset.key, each]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    if (child) known.delete(name);
    else {
      child = create(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const left of known.values()) left.remove();
}
