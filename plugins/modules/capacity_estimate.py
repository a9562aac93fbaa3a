#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people know about models, loads and stores, as demand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_estimate
short_description: Estimate what models, loads and stores ask of the hosts
version_added: 0.2.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Turns what people know, such as the parameters of a model or the requests a second, into what
    has to be planned, such as the memory of a GPU or the number of replicas.
  - Every figure comes with its formula, the numbers filled in so that it can be done again by hand,
    and with the source of the formula.
  - What has to be planned is also given in the words of C(mlops_workloads).
  - Runs on the controller, reads the files that are named, and changes nothing.
options:
  estimates:
    description:
      - A list of mappings. Each has a C(kind), its fields, and optionally a C(name).
      - >-
        Sizes are given by one field that ends with its unit, shown here as C(_gib). The units are
        C(_bytes), C(_kib), C(_mib), C(_gib), C(_tib), C(_mb), C(_gb) and C(_tb).
      - >-
        C(model) is the memory of a model's weights and of serving it. Fields are C(parameters) and
        C(dtype) (such as V(bf16), V(fp32), V(int8) or V(int4)), or C(files), the path of a
        C(.safetensors) or C(.onnx) file, of a directory with such files, or a list of paths. With
        both C(files) and C(dtype) the weights are taken as converted. Formats of fewer bits are
        counted as they are stored, C(nf4), C(nf4_double), C(mxfp4), C(nvfp4), C(awq) and C(gptq)
        (with C(group_size), 128) with their scales, and GGUF's such as C(q4_k_m) and C(q8_0). All
        but GGUF's leave C(unquantised_parameters) (embeddings and head; the most that is usual if
        not given) in 16 bits. More fields are C(buffers_gib) of tensors that are no parameters,
        C(overhead_percent) for the runtime (20), C(device) (V(gpu) or V(cpu)), C(gpus) among which
        one copy is split (1), C(cpu_cores) and C(replicas), and C(kv_cache) with the fields of that
        kind.
      - >-
        C(kv_cache) is the memory of a transformer's key-value cache. Fields are C(layers),
        C(kv_heads), C(head_size), C(dtype) (V(bf16)), C(block_tokens) (16), and C(tokens), or
        C(sequences) and C(tokens_per_sequence), or C(memory_gib), which asks how many tokens fit.
        Latent attention (MLA, such as DeepSeek-V3) has C(kv_lora_rank) and C(qk_rope_head_dim) in
        place of the heads. Models such as Gemma 3 have C(sliding_layers), layers that keep only
        C(sliding_window) tokens. C(gpus) (1; within C(model) those of the model) tells how often
        the cache is kept, as no GPU holds less than one KV head, or less than the whole latent
        vector.
      - >-
        C(training) is the memory of each GPU and each host for training with Adam. C(precision) is
        V(mixed) (16 bytes a parameter, as DeepSpeed keeps them), V(amp) (18, torch.autocast) or
        V(fp32) (16). More fields are C(parameters), C(gpus) (1), C(gpus_per_host) (at most 8),
        C(zero_stage) (0 to 3), C(offload) (V(none), V(optimizer) or V(all)),
        C(largest_layer_parameters) and C(zero_init) for stage 3, and C(cpu_cores). C(lora) has
        C(trainable_parameters), or C(rank) and C(matrices) with C(inputs), C(outputs) and C(count),
        and C(base_dtype) (V(bf16)). C(activations) has C(layers), C(hidden_size), C(heads),
        C(sequence), C(batch) and C(recompute) (V(none), V(selective) or V(full)) of a transformer,
        or of any other model C(batch) and C(per_sample_mib), as measured, or C(outputs_per_sample),
        the numbers that its layers put out (11.1 million for ResNet-50).
      - >-
        C(serving) is the number of replicas for a load. Fields are C(service_seconds), the time
        that one request takes, and C(rate_per_second), or C(arrivals), a list of times in seconds,
        or C(arrivals_file) with one time a line. More fields are C(concurrency), the requests that
        a replica works on at once (1), C(max_utilisation) (0.7), C(spare_replicas) (0),
        C(window_seconds) of the busiest window of a trace (60), C(each_replica) with C(cpu_cores),
        C(memory_mib) and C(gpu_memory_mib), and C(waiting) with C(seconds) and C(quantile) (0.95),
        the promise that this share of the requests waits no longer. With a promise the queue M/M/c
        is used, for a trace only if its arrivals come no more in bursts than independent ones.
      - >-
        C(dataset) is the space of a dataset. Fields are C(size_gib) (or C(size) with its unit, such
        as V(3TiB); so with every size), C(growth_percent_per_year) (0), C(growth) (V(compound) or
        V(linear)), C(years) (0), C(copies) (1) and C(path).
      - >-
        C(mlflow) is the space of artifacts and of the database. Fields are C(runs_per_day),
        C(retention_days), C(artifacts_per_run_gib), C(metrics_per_run), C(params_per_run),
        C(tags_per_run), C(metric_row_bytes) (250), C(text_row_bytes) (300) and C(path).
      - >-
        C(prometheus) is the space of metrics. Fields are C(retention_days), C(samples_per_second),
        or C(series) and C(scrape_interval_seconds) (15), and C(bytes_per_sample) (2),
        C(overhead_percent) for blocks at the end of the retention and for compaction (20) and
        C(path).
      - >-
        C(ceph) is what a cluster can hold for its users. Fields are C(failure_domains) and
        C(raw_per_domain_gib), or C(domains_tib), a list; C(replicas), or C(data_chunks) and
        C(coding_chunks); C(full_ratio) (0.85), C(domains_lost), for which room is kept (1), and
        C(wanted_gib), which tells what is missing.
      - >-
        C(backup) is the space of daily backups on the worst day. Fields are C(size_gib),
        C(change_percent_per_day) (5), C(full_every_days) (7), C(retention_days),
        C(compression_ratio) (1), C(copies) (1) and C(path).
      - >-
        C(edge_download) is the time that rings of devices take to download a release. Fields are
        C(release_gib), C(uplink_mbit), C(uplink_share_percent) (80), C(device_mbit), and C(rings),
        a list of numbers of devices or of mappings with C(name) and C(devices).
      - >-
        C(ring_size) is the number of devices that see a defect. Fields are C(defect_rate),
        C(confidence) (0.95), and C(devices), which tells how likely that many see it.
    type: raw
    required: true
extends_documentation_fragment: [mlops.onprem.read_only]
notes:
  - Of model files only the description of the tensors is read, never their data.
seealso:
  - module: mlops.onprem.capacity_plan
"""

EXAMPLES = r"""
- name: Estimate a language model and the metrics
  mlops.onprem.capacity_estimate:
    estimates:
      - name: chat
        kind: model
        parameters: 8030261248
        dtype: bf16
        kv_cache:
          layers: 32
          kv_heads: 8
          head_size: 128
          sequences: 16
          tokens_per_sequence: 4096
      - name: fine-tuning
        kind: training
        parameters: 2851000000
        gpus: 8
        zero_stage: 2
      - name: metrics
        kind: prometheus
        series: 120000
        retention_days: 30
  delegate_to: localhost
  run_once: true
  register: estimated

- name: Show the arithmetic
  ansible.builtin.debug:
    msg: "{{ estimated.report }}"

- name: Plan the model as a workload
  ansible.builtin.set_fact:
    chat: "{{ {'name': 'chat', 'kind': 'serving'} | combine(estimated.workloads['chat']) }}"

- name: Ask how many replicas a load needs
  mlops.onprem.capacity_estimate:
    estimates:
      - kind: serving
        rate_per_second: 40
        service_seconds: 0.25
        concurrency: 4
        waiting: {seconds: 0.5, quantile: 0.99}
  delegate_to: localhost
"""

RETURN = r"""
estimates:
  description: One answer for each estimate, in the same order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name, or its kind and number.
      type: str
      returned: always
    kind:
      description: Its kind.
      type: str
      returned: always
    value:
      description: The figure that was asked for. It is the first one of C(figures).
      type: float
      returned: always
    unit:
      description: Its unit, such as V(bytes) or V(replicas).
      type: str
      returned: always
    formula:
      description: Its formula with the numbers filled in.
      type: str
      returned: always
    source:
      description: Where the formula comes from.
      type: str
      returned: always
    figures:
      description: All figures, each with C(name), C(value), C(unit), C(formula), C(source).
      type: list
      elements: dict
      returned: always
    demand:
      description:
        - What one replica needs as C(cpu_cores), C(memory_mib), C(gpu_memory_mib) of each of
          C(gpu_count) devices, C(disk_mib) below C(disk_path), and the number of C(replicas).
        - Empty where nothing follows for a host.
      type: dict
      returned: always
    workload:
      description: The same in the words of C(mlops_workloads).
      type: dict
      returned: always
    notes:
      description: What to know about the answer, such as what it does not include.
      type: list
      elements: str
      returned: always
workloads:
  description: The C(workload) of every estimate that has one, by its name.
  returned: always
  type: dict
report:
  description: Every figure with its arithmetic as a line of text.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.local import LocalFiles
from ansible_collections.mlops.onprem.plugins.module_utils._demand.estimate.read import (
    estimate_all,
    report,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={"estimates": {"type": "raw", "required": True}},
        supports_check_mode=True,
    )
    try:
        found = estimate_all(module.params["estimates"], LocalFiles())
    except ShapeError as error:
        module.fail_json(msg=f"{error}.")
        return
    module.exit_json(
        changed=False,
        estimates=[one.as_dict() for one in found],
        workloads={one.name: one.need.workload() for one in found if one.need},
        report=report(found),
    )


if __name__ == "__main__":
    main()
