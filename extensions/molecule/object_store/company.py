# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The company's bucket: ``make`` creates it.

``compare`` fails if it has changed, or if a bucket of ours is left.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import boto3
import yaml

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / os.environ.get("MLOPS_TEST_SITE", "extensions/molecule/inventory")
HANDED_OVER = SITE / "group_vars/all/s3.yml"
BUCKET, KEY, BODY = "company-pipeline", "ours/from before.bin", b"the company's own bytes"
OURS = {"mlops-models", "mlops-pipeline"}


def client() -> Any:
    given = yaml.safe_load(HANDED_OVER.read_text(encoding="utf-8"))
    return boto3.client(
        "s3",
        endpoint_url=given["mol_s3_endpoint"],
        region_name=given["mol_s3_region"],
        verify=given["mol_s3_ca_file"],
        aws_access_key_id=given["mol_s3_access_key"],
        aws_secret_access_key=given["mol_s3_secret_key"],
    )


def main(verb: str) -> int:
    s3 = client()
    names = {row["Name"] for row in s3.list_buckets()["Buckets"]}
    if verb == "make":
        if BUCKET not in names:
            s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
        return 0
    left = sorted(names & OURS)
    held = [row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    body = s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    if left or held != [KEY] or body != BODY:
        print(f"buckets of ours left: {left}; the company's bucket holds {held}: {body!r}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
