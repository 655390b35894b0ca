// What the maker of a model says of it, for those it is given to: shown, and changed.
import * as api from "./api.js";
import { el, setText } from "./dom.js";
import { complain } from "./toasts.js";

export function describePart(model) {
  const { author = "", licence = "", tags = "" } = model.facts;
  const fields = {
    author: field("author", "Made by", author, 200),
    licence: field("licence", "Licence of its sounds", licence, 100, "such as CC0-1.0"),
    tags: field("tags", "Tags", tags, 1000, "drums, dusty"),
  };
  const said = el("span.small.muted", { role: "status" });
  const form = el(
    "form",
    { "aria-label": "About this model" },
    el("div.fields", {}, Object.values(fields).map(({ node }) => node)),
    el("div.row", {}, el("button", { type: "submit" }, "Save"), said),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await api.put(`/models/${api.id(model.id)}/description`, {
        author: fields.author.value(),
        licence: fields.licence.value(),
        tags: fields.tags.value().split(",").map((tag) => tag.trim()).filter(Boolean),
      });
      setText(said, "Saved in the model's file.");
    } catch (error) {
      complain(error);
    }
  });
  return el(
    "details.panel",
    { "data-testid": "describe-model" },
    el("summary", {}, "For those you give it to"),
    el("p.small.muted", {}, "Kept in the file of the model, and shown wherever it is opened."),
    form,
  );
}

function field(name, label, value, maxlength, placeholder = "") {
  const input = el("input", { id: `about-${name}`, value, maxlength, placeholder });
  const node = el("div.field", {}, el("label", { for: input.id }, label), input);
  return { node, value: () => input.value.trim() };
}
