// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// The form that silences an alert: who, why, how long. It is a dialog of the browser, which keeps the
// focus inside and ends by Escape.
import * as api from "./api.js";
import { h } from "./dom.js";

const HOURS = [1, 2, 4, 8, 24, 72, 168];
const WHO = "mlops.start.who";

/** Labels as Alertmanager matches them. */
export function matchers(labels, narrow) {
  const names = narrow ? Object.keys(labels).sort() : ["alertname"];
  return names.map((name) => ({ name, value: labels[name], isRegex: false, isEqual: true }));
}

function lasting(hours, { t, f }) {
  if (hours === 1) return t("hour");
  if (hours < 24) return t("hours", { count: f.count(hours) });
  return hours === 24 ? t("day_one") : t("days", { count: f.count(hours / 24) });
}

/** Ask for what a silence needs, set it, and say that it stands. */
export function askToSilence({ alert, account, speak, tell, done }) {
  const { t, f } = speak;
  const name = alert.labels.alertname;
  const own = Object.entries(alert.labels).filter(([label]) => ["host", "instance", "mountpoint", "model_name", "name", "unit"].includes(label));
  const shown = own.map(([label, value]) => `${label} ${value}`).join(", ") || name;
  const personal = account !== "" && account !== "admin";
  const who = h("input", { id: "silence-who", name: "who", required: true, maxlength: "100", autocomplete: "name", readonly: personal });
  who.value = personal ? account : (api.remembered(WHO) ?? "");
  const why = h("textarea", { id: "silence-why", name: "why", required: true, rows: "3", maxlength: "500" });
  const long = h("select", { id: "silence-long", name: "long" }, HOURS.map((hours) => h("option", { value: String(hours) }, lasting(hours, speak))));
  long.value = "2";
  const problem = h("p", { class: "problem", role: "alert" });
  const send = h("button", { type: "submit", class: "main" }, t("silence_do"));
  const form = h(
    "form",
    { method: "dialog", novalidate: true },
    h("h2", { id: "silence-title" }, t("silence_title", { alert: name })),
    h(
      "fieldset",
      {},
      h("legend", {}, t("silence_what")),
      h("label", {}, h("input", { type: "radio", name: "what", value: "this", checked: true }), h("span", {}, t("silence_this", { labels: shown }))),
      h("label", {}, h("input", { type: "radio", name: "what", value: "all" }), h("span", {}, t("silence_all", { alert: name }))),
    ),
    h("label", { for: "silence-who" }, t("silence_who")),
    who,
    h("label", { for: "silence-why" }, t("silence_why")),
    why,
    h("label", { for: "silence-long" }, t("silence_long")),
    long,
    problem,
    h("p", { class: "actions" }, send, h("button", { type: "button", on: { click: () => dialog.close() } }, t("cancel"))),
  );
  const dialog = h("dialog", { "aria-labelledby": "silence-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!who.value.trim() || !why.value.trim()) {
      problem.textContent = t("silence_needs");
      (who.value.trim() ? why : who).focus();
      return;
    }
    send.disabled = true;
    const until = new Date(Date.now() + Number(long.value) * 3600e3);
    try {
      await api.setSilence({
        matchers: matchers(alert.labels, form.elements.what.value === "this"),
        startsAt: new Date().toISOString(),
        endsAt: until.toISOString(),
        createdBy: who.value.trim(),
        comment: why.value.trim(),
      });
    } catch (trouble) {
      send.disabled = false;
      problem.textContent = trouble.kind === "forbidden" ? t("forbidden") : t("silence_failed", { detail: trouble.message });
      return;
    }
    if (!personal) api.remember(WHO, who.value.trim());
    dialog.close();
    tell(t("silence_set", { until: f.moment(until) }));
    done();
  });
  form.addEventListener("input", () => (problem.textContent = ""));
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
    else document.getElementById("main").focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (personal ? why : who).focus();
}
