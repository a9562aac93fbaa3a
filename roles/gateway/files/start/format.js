// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Numbers, times and dates as people of a language write them. Nothing here looks at the page.

const NONE = "\u2013";
// English is written as in Europe: the day before the month, and twenty-four hours.
const place = (language) => (language === "en" ? "en-GB" : language);

export function number(language, value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits }).format(value);
}

export function count(language, value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(value);
}

export function hundredths(language, value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
}

export function percent(language, ratio, digits = 0) {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return NONE;
  const style = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, style).format(ratio);
}

/** How long something takes that takes less than minutes. */
export function latency(language, seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 1) return `${number(language, seconds * 1000)}\u00a0ms`;
  return `${number(language, seconds)}\u00a0s`;
}

export function bytes(language, value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let step = 0;
  let left = value;
  while (Math.abs(left) >= 1024 && step < units.length - 1) {
    left /= 1024;
    step += 1;
  }
  return `${number(language, left)}\u00a0${units[step]}`;
}

const SPANS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** A time span in its largest unit: `3 days`. */
export function span(language, seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const [unit, size] = SPANS.find(([, length]) => Math.abs(seconds) >= length) ?? SPANS[3];
  const style = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 };
  return new Intl.NumberFormat(language, style).format(Math.floor(seconds / size));
}

/** How far off a moment is, before or after now: `in 3 days`, `5 minutes ago`. */
export function off(language, seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const [unit, size] = SPANS.find(([, length]) => Math.abs(seconds) >= length) ?? SPANS[3];
  return new Intl.RelativeTimeFormat(language, { numeric: "always" }).format(Math.trunc(seconds / size), unit);
}

export function clock(language, date) {
  return new Intl.DateTimeFormat(place(language), { timeStyle: "medium" }).format(date);
}

export function moment(language, date) {
  return new Intl.DateTimeFormat(place(language), { dateStyle: "medium", timeStyle: "short" }).format(date);
}

export function day(language, date) {
  return new Intl.DateTimeFormat(place(language), { dateStyle: "medium" }).format(date);
}
