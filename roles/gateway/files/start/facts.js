// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// What is asked of Prometheus, and what follows from its answers. Each question is answered from few
// series, however many devices there are; those that change slowly are asked every fourth time.
import * as api from "./api.js";

const as = (name, query) => `label_replace(${query}, "what", "${name}", "", "")`;
const any = (...parts) => parts.join(" or ");

/** A value inside the quotes of a question. */
export const quoted = (text) => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");

const QUICK = {
  services: any(
    as("answers", 'min by (host, service) (probe_success{service!~"model_serving|metrics"})'),
    as("measured", 'min by (host, job) (up{job=~"prometheus|alertmanager|job_scheduler"})'),
    as("database", "min by (host) (pg_up)"),
  ),
  fleet: any(as("up", 'min by (host) (up{job="model_serving"})'), as("release", "count by (host, model_name, model_version) (mlops_model_info)")),
  models: any(
    as("rate", "sum by (model_name, model_version) (mlops:model_requests:rate5m)"),
    as("p95", "quantile by (model_name, model_version) (0.5, mlops:model_request_seconds:p95 >= 0)"),
    as("worst", "max by (model_name, model_version) (mlops:model_request_seconds:p95 >= 0)"),
    as(
      "errors",
      'sum by (model_name, model_version) (mlops:model_requests:rate5m{outcome="error"}) / (sum by (model_name, model_version) (mlops:model_requests:rate5m) > 0)',
    ),
  ),
};

const SLOW = {
  drift: any(
    as("ratio", "topk by (model_name, model_version) (4, max by (model_name, model_version, feature, measure) (mlops_model_drift / mlops_model_drift_limit))"),
    as("features", "max by (model_name, model_version) (mlops_model_drift_features) > 0"),
    as("window", "sum by (model_name, model_version) (mlops_model_window_requests)"),
  ),
  headroom: any(
    as("cpu", 'topk(12, 1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[5m])))'),
    as("memory", "topk(12, 1 - min by (host) (mlops:memory_available:ratio))"),
    as("disk", "topk(12, 1 - min by (host) (mlops:filesystem_free:ratio))"),
  ),
  dates: any(
    as("certificate", "bottomk(50, min by (host) (probe_ssl_earliest_cert_expiry))"),
    as("channel", "min by (ring) (mlops_rollout_channel_expires_seconds)"),
    as(
      "disk",
      "bottomk(6, time() + min by (host, mountpoint) (node_filesystem_avail_bytes / -(deriv(node_filesystem_avail_bytes[6h]) < 0) and node_filesystem_avail_bytes offset 6h) < time() + 1e8)",
    ),
  ),
  rollouts: '{__name__=~"mlops_rollout_(info|devices|ring|started_seconds)"}',
};

const OVER_TIME = any(
  as("worst", "max by (model_name) (mlops:model_request_seconds:p95 >= 0)"),
  as("rate", "sum by (model_name) (mlops:model_requests:rate5m)"),
);

const EVERY = 4;

/** Ask everything whose turn it is; what could not be had keeps what was known and says why. */
async function gather(known, questions) {
  const found = { ...known, troubles: {} };
  await Promise.all(
    Object.entries(questions).map(async ([name, question]) => {
      try {
        found[name] = await question();
      } catch (trouble) {
        if (!(trouble instanceof api.Trouble)) throw trouble;
        found.troubles[name] = trouble;
      }
    }),
  );
  return found;
}

export const alerting = { alerts: api.alerts, silences: api.silences };

/** The questions of a turn of the overview, by what they answer. */
export function overview(turn, known) {
  const missing = Object.keys(SLOW).some((name) => known[name] === undefined);
  const slow = turn % EVERY === 0 || missing;
  const asked = { ...QUICK, ...(slow ? SLOW : {}) };
  const questions = Object.fromEntries(Object.entries(asked).map(([name, query]) => [name, () => api.now(query)]));
  if (slow) questions.hours = () => api.lastHour(OVER_TIME);
  return gather(known, { ...questions, ...alerting });
}

export function device(name, known) {
  const host = `host="${quoted(name)}"`;
  return gather(known, {
    now: () =>
      api.now(
        any(
          as("up", `up{${host},job!~"probe_.*"}`),
          as("probe", `probe_success{${host}}`),
          as("certificate", `min by (host) (probe_ssl_earliest_cert_expiry{${host}})`),
          as("release", `mlops_model_info{${host}}`),
          as("loaded", `mlops_model_loaded_timestamp_seconds{${host}}`),
          as("verified", `mlops_release_verified{${host}}`),
          as("cpu", `1 - avg by (host) (rate(node_cpu_seconds_total{${host},mode="idle"}[5m]))`),
          as("memory", `1 - mlops:memory_available:ratio{${host}}`),
          as("disk", `1 - min by (host) (mlops:filesystem_free:ratio{${host}})`),
          as("unit_memory", `mlops:unit_memory:used_of_planned{${host}}`),
          as("unit_cpu", `mlops:unit_cpu:cores{${host}}`),
          as("unit_planned", `mlops_unit_planned_cpu_cores{${host}}`),
        ),
      ),
    hours: () =>
      api.lastHour(
        any(as("worst", `max by (model_name) (mlops:model_request_seconds:p95{${host}} >= 0)`), as("rate", `sum by (model_name) (mlops:model_requests:rate5m{${host}})`)),
      ),
    ...alerting,
  });
}

export function model(name, known) {
  const which = `model_name="${quoted(name)}"`;
  return gather(known, {
    now: () =>
      api.now(
        any(
          as("release", `topk(200, count by (host, model_version) (mlops_model_info{${which}}))`),
          as("rate", `topk(200, sum by (host, model_version) (mlops:model_requests:rate5m{${which}}))`),
          as("worst", `topk(200, max by (host, model_version) (mlops:model_request_seconds:p95{${which}} >= 0))`),
          as("errors", `topk(200, max by (host) (mlops:model_errors:ratio5m{${which}}))`),
        ),
      ),
    drift: () =>
      api.now(
        any(
          as("drift", `max by (model_version, feature, measure) (mlops_model_drift{${which}})`),
          as("ratio", `max by (model_version, feature, measure) (mlops_model_drift{${which}} / mlops_model_drift_limit)`),
          as("features", `max by (model_version) (mlops_model_drift_features{${which}}) > 0`),
          as("window", `sum by (model_version) (mlops_model_window_requests{${which}})`),
          as("quality", `min by (model_version, measure, source) (mlops_model_quality{${which}})`),
        ),
      ),
    hours: () =>
      api.lastHour(
        any(
          as("worst", `max by (model_version) (mlops:model_request_seconds:p95{${which}} >= 0)`),
          as("rate", `sum by (model_version) (mlops:model_requests:rate5m{${which}})`),
          as("errors", `max by (model_name) (mlops:model_errors:ratio5m{${which}})`),
        ),
      ),
    rollouts: () => api.now(`{__name__=~"mlops_rollout_(info|devices|ring|started_seconds)",model="${quoted(name)}"}`),
    ...alerting,
  });
}

export const only = (series, what) => (series ?? []).filter((row) => row.what === what);

/** Each device of the inventory or of Prometheus: where it stands and what it serves. */
export function devices(site, fleet) {
  const up = new Map(only(fleet, "up").map(({ host, value }) => [host, value]));
  const serves = Map.groupBy ? Map.groupBy(only(fleet, "release"), ({ host }) => host) : grouped(only(fleet, "release"), "host");
  const planned = new Map((site?.devices ?? []).map(({ name, ring }) => [name, ring]));
  const names = [...new Set([...planned.keys(), ...up.keys()])];
  return names
    .sort((one, other) => one.localeCompare(other, "en", { numeric: true }))
    .map((name) => {
      const releases = (serves.get(name) ?? []).map((row) => `${row.model_name} ${row.model_version}`).sort();
      let state = "unseen";
      if (up.get(name) === 1) state = releases.length ? "serving" : "idle";
      else if (up.has(name)) state = "off";
      return { name, ring: planned.get(name) ?? "", known: planned.has(name), state, releases };
    });
}

/** Rows by what they have in common. */
export function grouped(rows, key) {
  const found = new Map();
  for (const row of rows) {
    const name = row[key] ?? "";
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
}

const ORDER = ["ring_canary", "ring_early", "ring_fleet"];
const place = (ring) => (ring === "" ? ORDER.length + 1 : ORDER.includes(ring) ? ORDER.indexOf(ring) : ORDER.length);

/** The devices by ring, in the order in which releases reach them. */
export function rings(all) {
  const rows = [...grouped(all, "ring")].map(([ring, members]) => ({
    ring,
    members,
    answering: members.filter(({ state }) => state === "serving" || state === "idle").length,
    off: members.filter(({ state }) => state === "off").length,
    unseen: members.filter(({ state }) => state === "unseen").length,
    releases: tally(members.flatMap(({ releases }) => releases)),
  }));
  return rows.sort((one, other) => place(one.ring) - place(other.ring) || one.ring.localeCompare(other.ring));
}

/** How often each name occurs, the most frequent first. */
export function tally(names) {
  const found = new Map();
  for (const name of names) found.set(name, (found.get(name) ?? 0) + 1);
  return [...found].sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
}

/** What runs out, the next first: `{what, date, ...}`. */
export function dates(site, series) {
  const found = [];
  const days = grouped(
    only(series, "certificate").map((row) => ({ ...row, day: Math.floor(row.value / 86400) })),
    "day",
  );
  for (const rows of days.values()) {
    const hosts = rows.map(({ host }) => host).sort();
    found.push({ what: "certificate", date: Math.min(...rows.map(({ value }) => value)), hosts });
  }
  for (const { ring, value } of only(series, "channel")) found.push({ what: "channel", date: value, ring });
  for (const { host, mountpoint, value } of only(series, "disk")) found.push({ what: "disk", date: value, host, mount: mountpoint });
  const noon = (text) => Date.parse(`${text}T12:00:00Z`) / 1000;
  if (site?.plan?.ends) found.push({ what: "plan_ends", date: noon(site.plan.ends) });
  for (const row of site?.plan?.resources ?? []) {
    if (row.runs_out) found.push({ what: "plan", date: noon(row.runs_out), group: row.group, resource: row.resource });
  }
  return found.sort((one, other) => one.date - other.date);
}

/** The rollouts begun last, by model. */
export function rollouts(series) {
  const named = (name) => (series ?? []).filter((row) => row.__name__ === name);
  return named("mlops_rollout_info")
    .map(({ model: name, version, state, digest }) => {
      const own = (metric) => named(metric).filter((row) => row.model === name);
      const counts = Object.fromEntries(own("mlops_rollout_devices").map((row) => [row.state, row.value]));
      return {
        model: name,
        version,
        state,
        digest,
        begun: own("mlops_rollout_started_seconds")[0]?.value ?? null,
        counts,
        all: Object.values(counts).reduce((sum, value) => sum + value, 0),
        rings: own("mlops_rollout_ring")
          .filter(({ value }) => value === 1)
          .map(({ ring, state: reached }) => ({ ring, state: reached }))
          .sort((one, other) => place(one.ring) - place(other.ring)),
      };
    })
    .sort((one, other) => (other.begun ?? 0) - (one.begun ?? 0));
}

const URGENCY = ["critical", "warning", "info"];
export const urgency = (alert) => {
  const found = URGENCY.indexOf(alert.labels.severity ?? "info");
  return found < 0 ? URGENCY.length : found;
};

/** Alerts that ask for somebody, and those that are held back, the most urgent first. What fires for ever asks for nobody. */
export function sorted(alerts) {
  const rows = (alerts ?? []).filter(({ labels }) => labels.severity !== "none").sort(
    (one, other) =>
      urgency(one) - urgency(other) ||
      Date.parse(one.startsAt) - Date.parse(other.startsAt) ||
      one.fingerprint.localeCompare(other.fingerprint),
  );
  return {
    firing: rows.filter(({ status }) => status.state !== "suppressed"),
    held: rows.filter(({ status }) => status.state === "suppressed"),
  };
}
