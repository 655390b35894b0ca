// Kept sounds as a pack for samplers: what is asked for, and the link that downloads it.
import { el } from "./dom.js";

const RATES = [["", "as it is"], ["44100", "44.1 kHz"], ["48000", "48 kHz"], ["96000", "96 kHz"]];
const BITS = [["24", "24 bit"], ["16", "16 bit"], ["32f", "32 bit, float"]];
const PEAKS = [["", "as it is"], ["0", "0 dBFS"], ["-1", "−1 dBFS"], ["-6", "−6 dBFS"]];

export function packPart() {
  const name = el("input", { id: "pack-name", value: "kept sounds", maxlength: "100" });
  const rate = choice("pack-rate", RATES);
  const bits = choice("pack-bits", BITS);
  const peak = choice("pack-peak", PEAKS);
  const stereo = el("input", { type: "checkbox" });
  const loop = el("input", { type: "checkbox" });
  const link = el("a.button.primary", { download: "", "data-testid": "download-pack" }, "Download all");
  const field = (label, control) => el("div.field", {}, el("label", { for: control.id }, label), control);
  const node = el(
    "div.roomy",
    { hidden: true },
    el("div.row", {}, link),
    el(
      "details",
      {},
      el("summary", {}, "How the files are to be"),
      el(
        "div.pack-fields",
        {},
        field("Name", name),
        field("Sample rate", rate),
        field("Resolution", bits),
        field("Peak", peak),
        el("label.inline", {}, stereo, "Stereo files"),
        el("label.inline", {}, loop, "Loop what is sustained"),
      ),
      el(
        "p.small.muted",
        {},
        "A zip file with WAV files, cut where nothing is heard any more, and presets: SFZ, DecentSampler and multisample (Bitwig).",
      ),
    ),
  );
  function tell() {
    const asked = { name: name.value.trim(), rate: rate.value, bits: bits.value, peak: peak.value, stereo: stereo.checked, loop: loop.checked };
    link.href = `/api/tray/pack?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value))}`;
  }
  node.addEventListener("input", tell);
  tell();
  return { node };
}

function choice(id, options) {
  return el(
    "select",
    { id },
    options.map(([value, text]) => el("option", { value }, text)),
  );
}
