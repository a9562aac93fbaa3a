// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Pieces that the overview and the pages of one device or one model share. `t` says words, `f` writes
// numbers; both know the language.
import { h } from "./dom.js";
import * as format from "./format.js";
import { named, say } from "./words.js";

/** Words and numbers of one language. */
export function speaker(language) {
  return {
    language,
    t: (name, gaps) => say(language, name, gaps),
    named: (name, otherwise) => named(language, name, otherwise),
    f: Object.fromEntries(Object.entries(format).map(([name, write]) => [name, (...values) => write(language, ...values)])),
  };
}

export function section(key, title, ...body) {
  return h("section", { "data-key": key, class: `part ${key}`, "aria-labelledby": `h-${key}` }, h("h2", { id: `h-${key}` }, title), body);
}

/** A mark with a shape of its own, so that it does not speak by colour alone. */
export function mark(kind, words) {
  return h("span", { class: `mark ${kind}` }, h("span", { class: "shape", "aria-hidden": "true" }), h("span", { class: "word" }, words));
}

export const quiet = (words) => h("p", { class: "quiet" }, words);

export function cells(heads, rows, caption) {
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads.map(([words, kind]) => h("th", { scope: "col", class: kind === true ? "n" : (kind ?? null) }, words)))),
      h("tbody", {}, rows),
    ),
  );
}

export const link = {
  device: (name) => `#/device/${encodeURIComponent(name)}`,
  model: (name) => `#/model/${encodeURIComponent(name)}`,
  registry: (name, version) => `/mlflow/#/models/${encodeURIComponent(name)}${version ? `/versions/${encodeURIComponent(version)}` : ""}`,
  graph: (query) => `/prometheus/classic/graph?${new URLSearchParams({ "g0.expr": query, "g0.tab": "0", "g0.range_input": "1h" })}`,
};

/** The runbook of an alert: a page of this gateway, whatever name it is reached by, or the company's. */
export function runbookOf({ annotations }) {
  if (!annotations.runbook_url) return null;
  try {
    const { protocol, pathname, href } = new URL(annotations.runbook_url, location.href);
    if (/^\/runbooks\/[\w.-]+\.html$/.test(pathname)) return pathname;
    return ["https:", "http:"].includes(protocol) ? href : null;
  } catch {
    return null;
  }
}

/** How much of something is used: a bar and its number. */
export function meter(ratio, words, f, limits = [0.8, 0.9]) {
  const known = Number.isFinite(ratio);
  const part = known ? Math.min(Math.max(ratio, 0), 1) : 0;
  const kind = ratio >= limits[1] ? "bad" : ratio >= limits[0] ? "warn" : "fine";
  return h(
    "span",
    { class: "meter" },
    h(
      "span",
      { class: "track", role: "meter", "aria-label": words, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(part * 100)) },
      h("span", { class: `fill ${kind}`, style: { width: `${part * 100}%` } }),
    ),
    h("span", { class: "n" }, f.percent(known ? ratio : null)),
  );
}

/** One alert: what it means, where, since when, what to do; and that it can be silenced. */
export function alertRow(alert, context) {
  const { speak, silences, maySilence, onSilence } = context;
  const { t, f } = speak;
  const { labels, annotations, startsAt, status } = alert;
  const severity = ["critical", "warning"].includes(labels.severity) ? labels.severity : "info";
  const since = (Date.now() - Date.parse(startsAt)) / 1000;
  const by = (silences ?? []).find(({ id }) => (status.silencedBy ?? []).includes(id));
  return h(
    "li",
    { "data-key": alert.fingerprint, class: `alert ${severity}` },
    h(
      "div",
      { class: "alert-head" },
      mark(severity, t(severity)),
      h("strong", {}, annotations.summary ?? labels.alertname),
      h("span", { class: "quiet" }, h("time", { datetime: startsAt, title: f.moment(new Date(startsAt)) }, f.off(-since))),
    ),
    annotations.description ? h("p", {}, annotations.description) : null,
    annotations.runbook ? h("p", { class: "todo" }, h("b", {}, `${t("what_to_do")}: `), annotations.runbook) : null,
    status.state === "suppressed"
      ? quiet(by ? t("silenced_by", { who: by.createdBy, until: f.moment(new Date(by.endsAt)), why: by.comment }) : t("inhibited"))
      : null,
    h(
      "p",
      { class: "actions" },
      runbookOf(alert) ? h("a", { href: runbookOf(alert), rel: "noreferrer" }, t("runbook"), h("span", { class: "visually-hidden" }, ` ${labels.alertname}`)) : null,
      labels.host ? h("a", { href: link.device(labels.host) }, labels.host) : null,
      status.state === "suppressed" || !maySilence
        ? null
        : h(
            "button",
            { type: "button", "aria-haspopup": "dialog", on: { click: (event) => onSilence(alert, event.currentTarget ?? event.target) } },
            t("silence"),
            h("span", { class: "visually-hidden" }, ` ${labels.alertname} ${labels.host ?? ""}`),
          ),
    ),
  );
}
