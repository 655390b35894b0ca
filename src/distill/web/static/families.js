// Model families as the server describes them; one that it does not know (a model from elsewhere) goes by its name.
import { el } from "./dom.js";

const UNKNOWN = { settings: [], losses: [], panel: null, has_codes: false, generates: false, parts: [] };
const COLOURS = ["--series-3", "--level-0", "--level-2", "--level-3"]; // of the family's own losses

export function familyOf(about, name) {
  return about.families.find((family) => family.name === name) ?? { ...UNKNOWN, name, title: name };
}

// True for models that make new sounds with a part that they may lack, and from sounds that are given.
export const drawsCodes = (family) => family.generates && family.parts.length > 0;

export const lacksPrior = (model) =>
  `${model.name} makes no new sounds: it has no prior, the part that knows how its codes follow each other. Models that are trained here from now on have one, from the last part of their run.`;

// What there is to know of a model before one judges it by its sounds, as that it is young.
export const remarksOn = ({ remarks }) =>
  remarks.map((text) => el("p.notice.amber", {}, `${text.charAt(0).toUpperCase()}${text.slice(1)}.`));

export const familyTitle = (about, name) => familyOf(about, name).title;

// The curves of a run's losses: `field` is their name in epoch events, `curve` in a model's history.
export function lossSeries({ losses }) {
  return [
    { field: "train_loss", curve: "train_losses", label: "Training", variable: "--series-1" },
    {
      field: "val_loss",
      curve: "val_losses",
      label: "Set aside",
      title: "Validation: sounds that are not trained on",
      variable: "--series-2",
    },
    ...losses.map(({ field, curve, label, meaning }, index) => ({
      field,
      curve,
      label,
      title: meaning,
      variable: COLOURS[index % COLOURS.length],
      dash: [5, 4],
    })),
  ];
}
