// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Lines over the last hour, drawn by uPlot.
import { h } from "./dom.js";

const TONES = ["--line1", "--line2", "--line3", "--line4", "--line5", "--line6"];

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const STEP = 60;
// A value that is older than this many steps is not one of now.
const FRESH = 3;

/** Points of several series on the times of the last hour, so that what has ended is seen to have. */
export function table(series, now = Date.now() / 1000) {
  const end = Math.floor(now / STEP) * STEP;
  const hour = Array.from({ length: 61 }, (_one, index) => end - 3600 + index * STEP);
  const times = [...new Set([...hour, ...series.flatMap(({ points }) => points.map(([time]) => time))])].sort((a, b) => a - b);
  const columns = series.map(({ points }) => {
    const known = new Map(points);
    return times.map((time) => (Number.isFinite(known.get(time)) ? known.get(time) : null));
  });
  return [times, ...columns];
}

/** A figure with a legend in words, so that the lines are not all there is. */
export function chart({ key, title, series, format, empty, language }) {
  if (!series.length) return h("figure", { "data-key": key, class: "chart" }, h("figcaption", {}, title), h("p", { class: "quiet" }, empty));
  const data = table(series);
  const last = data.slice(1).map((column) => column.slice(-FRESH).findLast((value) => value !== null) ?? null);
  const said = series.map(({ name }, index) => `${name} ${format(last[index])}`).join(", ");
  return h(
    "figure",
    { "data-key": key, class: "chart" },
    h("figcaption", {}, title),
    h("div", { "data-key": "plot", class: "plot", role: "img", "aria-label": `${title}: ${said}`, chart: { series, data, format, language } }),
    h(
      "ul",
      { class: "legend" },
      series.map(({ name, href }, index) =>
        h(
          "li",
          { "data-key": name },
          h("span", { class: `swatch tone${index % TONES.length}`, "aria-hidden": "true" }),
          href ? h("a", { href }, name) : name,
          " ",
          h("b", { class: "n" }, format(last[index])),
        ),
      ),
    ),
  );
}

function options({ series, format, language }, width, height) {
  const ink = colour("--quiet");
  const rule = colour("--rule");
  // The type grows on a wall screen as that of the page does.
  const scale = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const axis = { stroke: ink, font: `${12 * scale}px system-ui, sans-serif`, grid: { stroke: rule, width: 1 }, ticks: { show: false } };
  const hour = new Intl.DateTimeFormat(language === "en" ? "en-GB" : language, { hour: "2-digit", minute: "2-digit" });
  return {
    width,
    height,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 12, 0, 0],
    scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.15 : 1] } },
    axes: [
      { ...axis, size: 24 * scale, space: 90 * scale, grid: { show: false }, values: (_plot, marks) => marks.map((time) => hour.format(new Date(time * 1000))) },
      { ...axis, size: 64 * scale, space: 36 * scale, values: (_plot, marks) => marks.map((value) => (value === 0 ? "0" : format(value))) },
    ],
    series: [{}, ...series.map((_one, index) => ({ stroke: colour(TONES[index % TONES.length]), width: 2, spanGaps: false, points: { show: false } }))],
  };
}

/** Draw what the page holds; again where its figures, its width or its colours changed. */
export function draw(root, look) {
  for (const place of root.querySelectorAll(".plot")) {
    const width = Math.floor(place.clientWidth);
    if (!place.chart || !width || !globalThis.uPlot) continue;
    const shape = `${width} ${look} ${place.chart.series.map(({ name }) => name).join(" ")}`;
    if (place.plot && place.shape === shape) {
      place.plot.setData(place.chart.data);
    } else {
      place.plot?.destroy();
      place.shape = shape;
      place.plot = new globalThis.uPlot(options(place.chart, width, place.clientHeight), place.chart.data, place);
    }
  }
}
