// Makes DOM nodes: el("button.primary", {type: "button", on: {click}}, "Start").

const AS_PROPERTY = new Set(["value", "checked", "disabled", "indeterminate", "hidden"]);

export function el(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  node.append(...wanted(children));
  for (const [key, value] of Object.entries(props)) setProp(node, key, value);
  return node;
}

function setProp(node, key, value) {
  if (value === null || value === undefined) return;
  if (key === "on") for (const [type, handler] of Object.entries(value)) node.addEventListener(type, handler);
  else if (key === "style") Object.assign(node.style, value);
  else if (key === "class") node.classList.add(...value.split(" ").filter(Boolean));
  else if (AS_PROPERTY.has(key)) node[key] = value;
  else if (value !== false) node.setAttribute(key, value === true ? "" : value);
}

function wanted(children) {
  return children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);
}

export function fill(node, ...children) {
  node.replaceChildren(...wanted(children));
  return node;
}

// Touches the DOM only where the text is another: a run reports many times a second.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

let counter = 0;
export function uniqueId(prefix) {
  counter += 1;
  return `${prefix}-${counter}`;
}

export function later(milliseconds, action) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), milliseconds);
  };
}

export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
