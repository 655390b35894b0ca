// The colours of pictures of sounds, as in those that the server draws: black, violet, orange, near white.
const STOPS = [
  [0, 0, 4],
  [28, 16, 68],
  [79, 18, 123],
  [129, 37, 129],
  [181, 54, 122],
  [229, 80, 100],
  [251, 135, 97],
  [254, 194, 135],
  [252, 253, 191],
];

export const ramp = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (STOPS.length - 1);
  const below = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[below].map((from, channel) => Math.round(from + (STOPS[below + 1][channel] - from) * (place - below)));
});

// Draws frames [first, stop) of a mel, one byte for each of so many bands of a frame, as a picture into a rectangle.
export function drawMel(context, mel, bands, [first, stop], [x, y, width, height]) {
  if (stop <= first) return;
  const picture = new OffscreenCanvas(stop - first, bands);
  const image = new ImageData(stop - first, bands);
  for (let frame = first; frame < stop; frame += 1) {
    for (let band = 0; band < bands; band += 1) {
      const [red, green, blue] = ramp[mel[frame * bands + band]];
      const at = ((bands - 1 - band) * (stop - first) + frame - first) * 4;
      image.data[at] = red;
      image.data[at + 1] = green;
      image.data[at + 2] = blue;
      image.data[at + 3] = 255;
    }
  }
  picture.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(picture, x, y, width, height);
}
