// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// One device, or one model.
import { chart } from "./chart.js";
import { h } from "./dom.js";
import * as facts from "./facts.js";
import { featureName, ROLLOUT_MARKS } from "./overview.js";
import { alertRow, cells, link, mark, meter, quiet, section } from "./parts.js";

function head(title, ...more) {
  return h("div", { "data-key": "head", class: "detail-head" }, h("h2", { id: "detail", tabindex: "-1" }, title), more);
}

function back({ speak }) {
  return h("p", { "data-key": "back", class: "back" }, h("a", { href: "#/" }, speak.t("back")));
}

function alertsOf(context, belongs) {
  const { known, speak } = context;
  const { t } = speak;
  if (known.troubles?.alerts) return section("alerts", t("alerts"), h("p", { class: "problem" }, t("alerts_unknown")));
  const rows = facts.sorted((known.alerts ?? []).filter(({ labels }) => belongs(labels)));
  const all = [...rows.firing, ...rows.held];
  return section(
    "alerts",
    t("alerts"),
    all.length ? h("ul", { class: "plain" }, all.map((alert) => alertRow(alert, { ...context, silences: known.silences }))) : h("p", { class: "none" }, mark("good", known.alerts ? t("alerts_none") : t("loading"))),
  );
}

function charts(context, label, prefix) {
  const { known, speak } = context;
  const { t, f } = speak;
  const lines = (what) => facts.only(known.hours, what).map((row) => ({ name: `${prefix}${row[label]}`, points: row.points })).sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true })).slice(-6);
  const one = (key, title, series, format) => chart({ key, title, series, format, empty: known.hours ? t("chart_none") : t("loading"), language: speak.language });
  return h(
    "div",
    { class: "charts" },
    one("latency", t("chart_latency"), lines("worst"), f.latency),
    one("requests", t("chart_requests"), lines("rate"), (value) => f.number(value)),
  );
}

const pair = (name, value) => h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value));

export function device(context, name) {
  const { site, known, speak } = context;
  const { t, f } = speak;
  const now = known.now ?? [];
  const planned = site?.devices?.find((one) => one.name === name);
  const isHost = !planned && (site?.hosts ?? []).includes(name);
  const title = t(isHost ? "host_title" : "device_title", { name });
  if (known.now && !now.length && !planned && !isHost) return [back(context), head(title), h("p", { "data-key": "unknown", class: "problem" }, t("device_unknown"))];
  const up = facts.only(now, "up");
  const node = up.find(({ job }) => job === "node");
  const serving = up.find(({ job }) => job === "model_serving");
  const releases = facts.only(now, "release");
  const first = planned ? serving : node;
  const state = !known.now ? null : !first ? "unseen" : first.value !== 1 ? "off" : planned ? (releases.length ? "serving" : "idle") : "answers";
  const words = state === null ? t("loading") : state === "answers" ? t("up") : t(`state_${state}`);
  const kind = { serving: "good", answers: "good", idle: "info", off: "critical", unseen: "warning" }[state] ?? "info";
  const value = (what) => facts.only(now, what)[0]?.value;
  const verified = new Map(facts.only(now, "verified").map((row) => [row.model_name, row.value]));
  const loaded = new Map(facts.only(now, "loaded").map((row) => [`${row.model_name} ${row.model_version}`, row.value]));
  const ends = value("certificate");
  return [
    back(context),
    head(title, mark(kind, words)),
    h(
      "div",
      { "data-key": "parts", class: "parts one" },
      section(
        "state",
        t("state"),
        h(
          "dl",
          { class: "pairs" },
          planned ? pair(t("ring"), planned.ring.replace(/^ring_/, "") || t("no_ring")) : null,
          ["cpu", "memory", "disk"].map((what) => pair(t(what), meter(value(what), `${t(what)} ${t("used")}`, f))),
          ends ? pair(t("date_certificate", { host: name }), `${f.day(new Date(ends * 1000))}, ${f.off(ends - Date.now() / 1000)}`) : null,
          up.length ? pair(t("measured_parts"), h("span", { class: "chips" }, [...up].sort((one, other) => one.job.localeCompare(other.job)).map((row) => mark(row.value === 1 ? "good" : "critical", speak.named(`job_${row.job}`, row.job))))) : null,
        ),
        h("p", {}, h("a", { href: link.graph(`{host="${facts.quoted(name)}",job="node",__name__=~"node_load1|up"}`) }, t("in_prometheus"))),
      ),
      alertsOf(context, ({ host }) => host === name),
      planned || releases.length
        ? section(
            "serves",
            t("serves"),
            releases.length
              ? cells(
                  [[t("model")], [t("version"), true], [t("begun")], [t("signature")]],
                  releases.map((row) => {
                    const key = `${row.model_name} ${row.model_version}`;
                    const good = verified.get(row.model_name);
                    return h(
                      "tr",
                      { "data-key": key },
                      h("th", { scope: "row" }, h("a", { href: link.model(row.model_name) }, row.model_name)),
                      h("td", { class: "n" }, row.model_version),
                      h("td", { class: "when" }, loaded.has(key) ? f.moment(new Date(loaded.get(key) * 1000)) : ""),
                      h("td", {}, good === undefined ? t("unknown") : mark(good === 1 ? "good" : "critical", t(good === 1 ? "signature_good" : "signature_bad"))),
                    );
                  }),
                  t("serves"),
                )
              : quiet(known.now ? t("nothing_served") : t("loading")),
            charts(context, "model_name", ""),
          )
        : null,
      unitsPart(context, now),
    ),
  ];
}

function unitsPart({ speak }, now) {
  const { t, f } = speak;
  const by = (what) => new Map(facts.only(now, what).map((row) => [row.unit, row.value]));
  const [memory, cores, planned] = ["unit_memory", "unit_cpu", "unit_planned"].map(by);
  const units = [...new Set([...memory.keys(), ...cores.keys()])].sort();
  if (!units.length) return null;
  return section(
    "units",
    t("units"),
    cells(
      [[t("unit")], [t("of_planned")], [t("planned_cpu"), true]],
      units.map((unit) =>
        h(
          "tr",
          { "data-key": unit },
          h("th", { scope: "row" }, unit.replace(/\.service$/, "")),
          h("td", {}, memory.has(unit) ? meter(memory.get(unit), `${t("of_planned")} ${unit}`, f, [1, 1.2]) : ""),
          h("td", { class: "n" }, !cores.has(unit) ? "" : planned.has(unit) ? t("cores", { value: f.hundredths(cores.get(unit)), planned: f.hundredths(planned.get(unit)) }) : t("cores_unplanned", { value: f.hundredths(cores.get(unit)) })),
        ),
      ),
      t("units"),
    ),
  );
}

const DRIFT = ["psi", "rare", "missing", "out_of_range", "unseen"];

export function model(context, name) {
  const { known, speak } = context;
  const { t, f } = speak;
  const now = known.now ?? [];
  const title = t("model_title", { name });
  const releases = facts.only(now, "release");
  const rates = facts.only(now, "rate");
  if (known.now && !releases.length && !rates.length && !(known.rollouts ?? []).length) {
    return [back(context), head(title), h("p", { "data-key": "unknown", class: "problem" }, t("model_unknown")), h("p", { "data-key": "registry" }, h("a", { href: link.registry(name) }, t("in_mlflow")))];
  }
  const versions = facts.tally(releases.map((row) => row.model_version));
  return [
    back(context),
    head(title, h("span", { class: "chips" }, versions.map(([version, number]) => h("span", { class: "chip" }, `${t("version")} ${version}`, h("b", { class: "n" }, `\u00a0\u00d7\u00a0${f.count(number)}`)))), h("a", { href: link.registry(name, versions.length === 1 ? versions[0][0] : "") }, t("in_mlflow"))),
    h(
      "div",
      { "data-key": "parts", class: "parts one" },
      section("models", t("last_hour"), charts(context, "model_version", `${t("version")} `)),
      releasePart(context),
      alertsOf(context, (labels) => labels.model_name === name || labels.model === name),
      driftTable(context),
      byDevice(context, now),
    ),
  ];
}

function releasePart({ known, speak }) {
  const { t, f, named } = speak;
  const row = facts.rollouts(known.rollouts)[0];
  if (!row) return section("released", t("released"), quiet(known.rollouts ? t("released_none") : t("loading")));
  return section(
    "released",
    t("released"),
    h(
      "dl",
      { class: "pairs" },
      pair(t("version"), row.version),
      pair(t("release_state"), mark(ROLLOUT_MARKS[row.state] ?? "info", named(`rollout_${row.state}`, row.state))),
      row.begun ? pair(t("begun"), f.moment(new Date(row.begun * 1000))) : null,
      pair(t("devices"), t("on_devices", { done: f.count(row.counts.committed ?? 0), all: f.count(row.all) })),
      pair(t("rings_passed"), h("span", { class: "chips" }, row.rings.map(({ ring, state }) => mark(state === "passed" ? "good" : state === "failed" ? "critical" : "info", `${ring.replace(/^ring_/, "")} ${named(`ring_state_${state}`, state)}`)))),
      row.digest ? pair("sha256", h("code", {}, row.digest.replace(/^sha256:/, "").slice(0, 12))) : null,
    ),
  );
}

function driftTable({ known, speak }) {
  const { t, f } = speak;
  const rows = facts.only(known.drift, "drift");
  const profiled = new Set(facts.only(known.drift, "features").map((row) => row.model_version));
  const windows = facts.only(known.drift, "window").filter((row) => profiled.has(row.model_version));
  const ratios = new Map(facts.only(known.drift, "ratio").map((row) => [`${row.model_version} ${row.feature ?? ""} ${row.measure}`, row.value]));
  const quality = facts.only(known.drift, "quality");
  if (!rows.length && !windows.length && !quality.length) {
    return section("drift", t("drift"), quiet(known.troubles?.drift ? t("missing_part") : known.drift ? t("drift_none") : t("loading")));
  }
  const by = new Map();
  for (const row of rows) {
    const key = `${row.model_version} ${row.feature ?? ""}`;
    if (!by.has(key)) by.set(key, { version: row.model_version, feature: row.feature ?? "", values: {} });
    by.get(key).values[row.measure] = row.value;
  }
  const table = [...by.values()].sort((one, other) => (other.values.psi ?? 0) - (one.values.psi ?? 0));
  const cell = (version, feature, measure, value) => {
    const other = ratios.get(`${version} ${feature} ${measure}`) > 1;
    const words = measure === "psi" ? f.number(value, 2) : f.percent(value, 1);
    return h("td", { class: other ? "n bad" : "n" }, words, other ? h("span", { class: "visually-hidden" }, ` ${t("drift_other")}`) : null);
  };
  return section(
    "drift",
    t("drift"),
    windows.map((row) => h("p", { "data-key": row.model_version, class: "quiet" }, `${t("version")} ${row.model_version}: ${row.value ? t("drift_window", { count: f.count(row.value) }) : t("drift_waiting")}`)),
    table.length
      ? cells(
          [[t("feature")], [t("version"), true], ...DRIFT.map((measure) => [t(`measure_${measure}`), true])],
          table.map(({ version, feature, values }) =>
            h(
              "tr",
              { "data-key": `${version} ${feature}` },
              h("th", { scope: "row" }, featureName(feature, t)),
              h("td", { class: "n" }, version),
              DRIFT.map((measure) => cell(version, feature, measure, values[measure])),
            ),
          ),
          t("drift"),
        )
      : null,
    quality.length ? h("h3", {}, t("quality")) : null,
    quality.length ? qualityTable(quality, speak) : null,
  );
}

function qualityTable(quality, { t, f }) {
  const by = new Map();
  for (const row of quality) {
    const key = `${row.model_version} ${row.measure}`;
    if (!by.has(key)) by.set(key, { version: row.model_version, measure: row.measure });
    by.get(key)[row.source] = row.value;
  }
  return cells(
    [[t("quality")], [t("version"), true], [t("window"), true], [t("evaluation"), true]],
    [...by].map(([key, row]) => h("tr", { "data-key": key }, h("th", { scope: "row" }, row.measure), h("td", { class: "n" }, row.version), h("td", { class: "n" }, f.number(row.window)), h("td", { class: "n" }, f.number(row.evaluation)))),
    t("quality"),
  );
}

function byDevice({ site, speak }, now) {
  const { t, f } = speak;
  const by = (what) => new Map(facts.only(now, what).map((row) => [`${row.host} ${row.model_version}`, row.value]));
  const [rate, worst] = ["rate", "worst"].map(by);
  const errors = new Map(facts.only(now, "errors").map((row) => [row.host, row.value]));
  const ring = new Map((site?.devices ?? []).map((one) => [one.name, one.ring]));
  const rows = facts.only(now, "release").sort((one, other) => one.host.localeCompare(other.host, "en", { numeric: true }));
  if (!rows.length) return null;
  return section(
    "by-device",
    t("by_device"),
    cells(
      [[t("devices")], [t("ring")], [t("version"), true], [t("requests"), true], [t("latency"), true], [t("errors"), true]],
      rows.map((row) => {
        const key = `${row.host} ${row.model_version}`;
        return h(
          "tr",
          { "data-key": key },
          h("th", { scope: "row" }, h("a", { href: link.device(row.host) }, row.host)),
          h("td", {}, (ring.get(row.host) ?? "").replace(/^ring_/, "")),
          h("td", { class: "n" }, row.model_version),
          h("td", { class: "n" }, `${f.number(rate.get(key))}\u00a0/s`),
          h("td", { class: "n" }, f.latency(worst.get(key))),
          h("td", { class: "n" }, f.percent(errors.get(row.host), 1)),
        );
      }),
      t("by_device"),
    ),
  );
}
