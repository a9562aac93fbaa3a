// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// The site at a glance.
import { chart } from "./chart.js";
import { h } from "./dom.js";
import * as facts from "./facts.js";
import { alertRow, cells, link, mark, meter, quiet, section } from "./parts.js";

const MANY = 60;

export function overview(context) {
  const { site, known } = context;
  const devices = facts.devices(site, known.fleet);
  const alerts = facts.sorted(known.alerts);
  return [
    figures(context, devices, alerts),
    h(
      "div",
      { "data-key": "parts", class: "parts" },
      alertsPart(context, alerts),
      servicesPart(context),
      modelsPart(context),
      fleetPart(context, devices),
      headroomPart(context),
      datesPart(context),
      driftPart(context),
      releasedPart(context),
    ),
  ];
}

/** What a part says that could not be asked: nothing stands for "none". */
function unknown({ known, speak }, name) {
  return known.troubles?.[name] && known[name] === undefined ? quiet(speak.t("missing_part")) : null;
}

function servicesOf(known) {
  const rows = new Map();
  const put = (name, host, value) => {
    const key = `${name} ${host}`;
    rows.set(key, { name, host, up: value === 1 });
  };
  for (const row of facts.only(known.services, "answers")) put(row.service, row.host, row.value);
  for (const row of facts.only(known.services, "measured")) put(row.job, row.host, row.value);
  for (const row of facts.only(known.services, "database")) put("database", row.host, row.value);
  return [...rows.values()].sort((one, other) => Number(one.up) - Number(other.up) || one.name.localeCompare(other.name) || one.host.localeCompare(other.host));
}

function figure(key, words, value, detail, kind) {
  return h("div", { "data-key": key, class: kind ? `figure ${kind}` : "figure" }, h("dt", {}, words), h("dd", {}, h("span", { class: "big n" }, value), detail ? h("span", { class: "quiet" }, detail) : null));
}

function figures({ site, known, speak }, devices, alerts) {
  const { t, f } = speak;
  const services = servicesOf(known);
  const up = services.filter((row) => row.up).length;
  const answering = devices.filter(({ state }) => state === "serving" || state === "idle").length;
  const rate = facts.only(known.models, "rate").reduce((sum, { value }) => sum + value, 0);
  const worst = facts.only(known.models, "worst").map(({ value }) => value);
  const next = facts.dates(site, known.dates)[0];
  const days = next ? (next.date - Date.now() / 1000) / 86400 : null;
  return h(
    "dl",
    { "data-key": "figures", class: "figures", "aria-label": t("figures") },
    figure("services", t("services"), known.services ? f.count(up) : f.count(null), known.services ? ` / ${f.count(services.length)}` : "", known.services && up < services.length ? "bad" : ""),
    figure("devices", t("devices"), known.fleet ? f.count(answering) : f.count(null), known.fleet ? ` / ${f.count(devices.length)}` : "", known.fleet && answering < devices.length ? "warn" : ""),
    figure("alerts", t("alerts"), known.alerts ? f.count(alerts.firing.length) : f.count(null), "", alerts.firing.some((alert) => facts.urgency(alert) === 0) ? "bad" : alerts.firing.length ? "warn" : ""),
    figure("rate", t("requests"), known.models ? f.number(rate) : f.count(null), known.models ? " /s" : ""),
    figure("worst", t("latency"), f.latency(worst.length ? Math.max(...worst) : null), ""),
    figure("next", t("next_out"), next ? (days < 0 ? t("over") : f.span(days * 86400)) : f.count(null), "", days !== null && days < 7 ? "bad" : days !== null && days < 30 ? "warn" : ""),
  );
}

export function alertsPart(context, { firing, held }) {
  const { known, speak, maySilence, onEnd } = context;
  const { t, f } = speak;
  const title = t("alerts");
  if (known.troubles?.alerts && known.alerts === undefined) {
    return section("alerts", title, h("p", { class: "problem" }, t("alerts_unknown")));
  }
  const rows = (list) => h("ul", { class: "plain" }, list.map((alert) => alertRow(alert, { ...context, silences: known.silences })));
  return section(
    "alerts",
    title,
    known.troubles?.alerts ? h("p", { class: "problem" }, t("alerts_unknown")) : null,
    firing.length ? rows(firing) : h("p", { class: "none" }, mark("good", known.alerts ? t("alerts_none") : t("loading"))),
    held.length ? h("details", { "data-key": "held" }, h("summary", {}, t("alerts_silenced", { count: f.count(held.length) })), rows(held)) : null,
    (known.silences ?? []).length
      ? h(
          "details",
          { "data-key": "silences" },
          h("summary", {}, `${t("silences")} (${f.count(known.silences.length)})`),
          h(
            "ul",
            { class: "plain silences" },
            known.silences.map((one) =>
              h(
                "li",
                { "data-key": one.id },
                h("b", {}, one.matchers.map(({ name, value }) => (name === "alertname" ? value : `${name} ${value}`)).join(", ")),
                h("p", { class: "quiet" }, t("silenced_by", { who: one.createdBy, until: f.moment(new Date(one.endsAt)), why: one.comment })),
                maySilence ? h("button", { type: "button", on: { click: () => onEnd(one) } }, t("silence_end")) : null,
              ),
            ),
          ),
        )
      : null,
  );
}

function servicesPart(context) {
  const { known, speak } = context;
  const { t, named } = speak;
  const services = servicesOf(known);
  const body = services.length
    ? cells(
        [[t("service")], [t("host")], [t("state")]],
        services.map(({ name, host, up }) =>
          h(
            "tr",
            { "data-key": `${name} ${host}` },
            h("th", { scope: "row" }, named(`service_${name}`, name)),
            h("td", {}, h("a", { href: link.device(host) }, host)),
            h("td", {}, mark(up ? "good" : "critical", t(up ? "up" : "not_up"))),
          ),
        ),
        t("services"),
      )
    : unknown(context, "services") ?? quiet(known.services ? t("services_none") : t("loading"));
  return section("services", t("services"), body);
}

const MARKS = { serving: "good", idle: "info", off: "critical", unseen: "warning" };

function chips(releases, f, empty) {
  if (!releases.length) return h("span", { class: "quiet" }, empty);
  return h(
    "span",
    { class: "chips" },
    releases.map(([name, number]) => h("a", { class: "chip", href: link.model(name.slice(0, name.lastIndexOf(" "))) }, name, h("b", { class: "n" }, `\u00a0\u00d7\u00a0${f.count(number)}`))),
  );
}

function fleetPart(context, devices) {
  const { known, speak } = context;
  const { t, f } = speak;
  const missing = unknown(context, "fleet");
  if (missing) return section("fleet", t("fleet"), missing);
  if (!devices.length) return section("fleet", t("fleet"), quiet(known.fleet ? t("fleet_none") : t("loading")));
  const deferred = (known.rollouts ?? []).filter((row) => row.__name__ === "mlops_rollout_devices" && row.state === "deferred").reduce((most, { value }) => Math.max(most, value), 0);
  const unwell = devices.filter(({ state }) => state !== "serving");
  const shown = devices.length > MANY ? unwell.slice(0, MANY) : devices;
  return section(
    "fleet",
    t("fleet"),
    cells(
      [[t("ring")], [t("devices"), true], [t("answering"), "n spare"], [t("off"), true], [t("unseen"), true], [t("releases_served")]],
      facts.rings(devices).map((row) =>
        h(
          "tr",
          { "data-key": row.ring },
          h("th", { scope: "row" }, row.ring.replace(/^ring_/, "") || t("no_ring")),
          h("td", { class: "n" }, f.count(row.members.length)),
          h("td", { class: "n spare" }, f.count(row.answering)),
          h("td", { class: row.off ? "n bad" : "n" }, f.count(row.off)),
          h("td", { class: row.unseen ? "n warn" : "n" }, f.count(row.unseen)),
          h("td", {}, chips(row.releases, f, t("nothing_served"))),
        ),
      ),
      t("fleet"),
    ),
    deferred ? quiet(t("deferred", { count: f.count(deferred) })) : null,
    devices.length > MANY ? search(context, devices) : null,
    devices.length > MANY && unwell.length ? h("h3", {}, t("not_well", { count: f.count(unwell.length) })) : null,
    h(
      "ul",
      { class: "devices" },
      shown.map((one) => h("li", { "data-key": one.name }, h("a", { href: link.device(one.name) }, mark(MARKS[one.state], one.name), h("span", { class: "visually-hidden" }, ` ${t(`state_${one.state}`)}`)))),
    ),
  );
}

function search({ speak }, devices) {
  const { t } = speak;
  const go = (event) => {
    event.preventDefault();
    const name = event.target.elements.name.value.trim();
    if (name) location.hash = link.device(name);
  };
  return h(
    "form",
    { "data-key": "search", class: "search", role: "search", on: { submit: go } },
    h("label", { for: "device-name" }, t("find_device")),
    h("input", { id: "device-name", name: "name", list: "device-names", autocomplete: "off" }),
    h("datalist", { id: "device-names" }, devices.slice(0, 500).map(({ name }) => h("option", { value: name }))),
    h("button", { type: "submit" }, t("find")),
  );
}

function modelsPart(context) {
  const { known, speak } = context;
  const { t, f } = speak;
  const missing = unknown(context, "models");
  if (missing) return section("models", t("models"), missing);
  const by = (what) => new Map(facts.only(known.models, what).map((row) => [`${row.model_name} ${row.model_version}`, row.value]));
  const [rate, p95, worst, errors] = ["rate", "p95", "worst", "errors"].map(by);
  const counts = new Map(facts.tally(facts.only(known.fleet, "release").map((row) => `${row.model_name} ${row.model_version}`)));
  const names = [...new Set([...rate.keys(), ...counts.keys()])].sort();
  if (!names.length) return section("models", t("models"), quiet(known.models ? t("models_none") : t("loading")));
  const lines = (what) => facts.only(known.hours, what).map(({ model_name: name, points }) => ({ name, points, href: link.model(name) })).sort((one, other) => one.name.localeCompare(other.name)).slice(0, 6);
  return section(
    "models",
    t("models"),
    cells(
      [[t("model")], [t("version"), true], [t("devices"), "n spare"], [t("requests"), true], [t("latency"), "n spare"], [t("latency_worst"), true], [t("errors"), true]],
      names.map((key) => {
        const name = key.slice(0, key.lastIndexOf(" "));
        const ratio = errors.get(key);
        return h(
          "tr",
          { "data-key": key },
          h("th", { scope: "row" }, h("a", { href: link.model(name) }, name)),
          h("td", { class: "n" }, key.slice(name.length + 1)),
          h("td", { class: "n spare" }, f.count(counts.get(key) ?? 0)),
          h("td", { class: "n" }, `${f.number(rate.get(key))}\u00a0/s`),
          h("td", { class: "n spare" }, f.latency(p95.get(key))),
          h("td", { class: "n" }, f.latency(worst.get(key))),
          h("td", { class: ratio > 0.05 ? "n bad" : "n" }, f.percent(ratio, 1)),
        );
      }),
      t("models"),
    ),
    h(
      "div",
      { class: "charts" },
      chart({ key: "latency", title: t("chart_latency"), series: lines("worst"), format: f.latency, empty: t("chart_none"), language: speak.language }),
      chart({ key: "requests", title: t("chart_requests"), series: lines("rate"), format: (value) => f.number(value), empty: t("chart_none"), language: speak.language }),
    ),
  );
}

/** Whether chance explains what was seen, by how much of its limit a measure takes. */
export const driftKind = (ratio) => (ratio > 1 ? ["warning", "drift_other"] : ["good", "drift_calm"]);

function driftPart(context) {
  const { known, speak } = context;
  const { t, f } = speak;
  const missing = unknown(context, "drift");
  if (missing) return section("drift", t("drift"), missing);
  const id = (row) => `${row.model_name} ${row.model_version}`;
  const ratios = facts.only(known.drift, "ratio");
  const windows = facts.only(known.drift, "window");
  // A release without a profile tells of windows without requests.
  const keys = [...new Set([...ratios, ...facts.only(known.drift, "features")].map(id))].sort();
  if (!keys.length) return section("drift", t("drift"), quiet(known.drift ? t("drift_none") : t("loading")));
  return section(
    "drift",
    t("drift"),
    h(
      "ul",
      { class: "plain" },
      keys.map((key) => {
        const rows = ratios.filter((row) => id(row) === key).sort((one, other) => other.value - one.value);
        const seen = windows.find((row) => id(row) === key)?.value ?? 0;
        const [kind, words] = driftKind(rows[0]?.value ?? 0);
        return h(
          "li",
          { "data-key": key, class: "drifting" },
          h("p", {}, h("a", { href: link.model(key.slice(0, key.lastIndexOf(" "))) }, key), " ", rows.length ? mark(kind, t(words)) : null),
          rows.map((row) =>
            h(
              "p",
              { "data-key": `${row.feature} ${row.measure}`, class: "bar" },
              h("span", {}, featureName(row.feature, t), h("span", { class: "quiet" }, `, ${t(`measure_${row.measure}`)}`)),
              h("span", { class: "track limited" }, h("span", { class: `fill ${driftKind(row.value)[0]}`, style: { width: `${Math.min(row.value / 2, 1) * 100}%` } })),
              h("span", { class: "n" }, f.percent(row.value)),
            ),
          ),
          quiet(seen ? t("drift_window", { count: f.count(seen) }) : t("drift_waiting")),
        );
      }),
    ),
    ratios.length ? quiet(t("drift_limit")) : null,
  );
}

export function featureName(name, t) {
  if (name === "" || name === undefined || name === "prediction") return t("predictions");
  return name === "confidence" ? t("confidence") : name;
}

function headroomPart(context) {
  const { known, speak } = context;
  const { t, f } = speak;
  const missing = unknown(context, "headroom");
  if (missing) return section("headroom", t("headroom"), missing);
  const kinds = ["cpu", "memory", "disk"];
  const by = Object.fromEntries(kinds.map((kind) => [kind, new Map(facts.only(known.headroom, kind).map(({ host, value }) => [host, value]))]));
  const hosts = [...new Set(kinds.flatMap((kind) => [...by[kind].keys()]))];
  if (!hosts.length) return section("headroom", t("headroom"), quiet(known.headroom ? t("headroom_none") : t("loading")));
  const tight = (host) => Math.max(...kinds.map((kind) => by[kind].get(host) ?? 0));
  // In steps, so that hosts do not change places with every breath.
  hosts.sort((one, other) => Math.round(tight(other) * 20) - Math.round(tight(one) * 20) || one.localeCompare(other, "en", { numeric: true }));
  return section(
    "headroom",
    t("headroom"),
    cells(
      [[t("host")], ...kinds.map((kind) => [t(kind)])],
      hosts.slice(0, 12).map((host) =>
        h("tr", { "data-key": host }, h("th", { scope: "row" }, h("a", { href: link.device(host) }, host)), kinds.map((kind) => h("td", {}, meter(by[kind].get(host), `${t(kind)} ${host} ${t("used")}`, f)))),
      ),
      t("headroom"),
    ),
    hosts.length > 12 ? quiet(t("more_hosts", { count: f.count(12) })) : null,
  );
}

function dateWords(row, { t }) {
  if (row.what === "certificate") {
    if (row.hosts.length === 1) return t("date_certificate", { host: row.hosts[0] });
    return t(row.hosts.length >= 50 ? "date_certificates_many" : "date_certificates", { count: row.hosts.length });
  }
  if (row.what === "channel") return t("date_channel", { ring: row.ring });
  if (row.what === "disk") return t("date_disk", { mount: row.mount, host: row.host });
  if (row.what === "plan_ends") return t("date_plan_ends");
  return t("date_plan", { resource: row.resource, group: row.group });
}

function datesPart(context) {
  const { site, known, speak } = context;
  const { t, f } = speak;
  const missing = unknown(context, "dates");
  const rows = facts.dates(site, known.dates);
  const now = Date.now() / 1000;
  return section(
    "dates",
    t("dates"),
    missing,
    rows.length
      ? h(
          "ul",
          { class: "plain timeline" },
          rows.slice(0, 10).map((row) => {
            const left = row.date - now;
            const kind = row.what === "channel" ? "" : left < 7 * 86400 ? "bad" : left < 30 * 86400 ? "warn" : "";
            const date = new Date(row.date * 1000);
            return h(
              "li",
              { "data-key": `${row.what} ${row.host ?? row.ring ?? row.resource ?? ""} ${row.mount ?? row.group ?? row.hosts?.[0] ?? ""}` },
              h("time", { class: "n", datetime: date.toISOString() }, f.day(date)),
              h("span", {}, dateWords(row, speak)),
              h("span", { class: `n ${kind}` }, left < 0 ? t("over") : f.off(left)),
            );
          }),
        )
      : missing ? null : quiet(known.dates ? t("dates_none") : t("loading")),
    site?.plan?.verdict === "FEASIBLE" && !site.plan.ends ? quiet(t("plan_fits")) : null,
    quiet(t("dates_young")),
  );
}

export const ROLLOUT_MARKS = { COMPLETED: "good", PARTIAL: "warning", PAUSED: "warning", ABORTED: "warning", ROLLED_BACK: "critical", ROLLED_BACK_PARTIAL: "critical" };

function releasedPart(context) {
  const { known, speak } = context;
  const { t, f, named } = speak;
  const missing = unknown(context, "rollouts");
  if (missing) return section("released", t("released"), missing);
  const rows = facts.rollouts(known.rollouts);
  if (!rows.length) return section("released", t("released"), quiet(known.rollouts ? t("released_none") : t("loading")));
  return section(
    "released",
    t("released"),
    cells(
      [[t("model")], [t("version"), true], [t("begun"), "spare"], [t("release_state")], [t("devices")]],
      rows.map((row) =>
        h(
          "tr",
          { "data-key": row.model },
          h("th", { scope: "row" }, h("a", { href: link.model(row.model) }, row.model)),
          h("td", { class: "n" }, row.version),
          h("td", { class: "when spare" }, row.begun ? f.moment(new Date(row.begun * 1000)) : ""),
          h("td", {}, mark(ROLLOUT_MARKS[row.state] ?? "info", named(`rollout_${row.state}`, row.state))),
          h("td", { class: "when" }, t("on_devices", { done: f.count(row.counts.committed ?? 0), all: f.count(row.all) })),
        ),
      ),
      t("released"),
    ),
    quiet(t("released_by")),
  );
}
