# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new person is handed: where the site is, the account, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._site.people import ADMINISTRATOR, OPERATOR, SCIENTIST, VIEWER, Person

ALLOWS: Mapping[str, Mapping[str, str]] = {
    "en": {
        VIEWER: "You read the pages of the site, its metrics, and all experiments and models.",
        SCIENTIST: (
            "You read the pages and metrics, and work in the model registry: experiments, runs,"
            " models and their versions."
        ),
        OPERATOR: (
            "You read and work as scientists do, and set silences for alerts that are known."
        ),
        ADMINISTRATOR: "You may do everything at the gateway and in the model registry.",
    },
    "de": {
        VIEWER: "Sie lesen die Seiten der Plattform, ihre Messwerte, alle Experimente und Modelle.",
        SCIENTIST: (
            "Sie lesen Seiten und Messwerte und arbeiten im Modell-Register: Experimente, Läufe,"
            " Modelle und ihre Versionen."
        ),
        OPERATOR: (
            "Sie lesen und arbeiten wie Wissenschaftler und stellen Alarme stumm, die bekannt sind."
        ),
        ADMINISTRATOR: "Sie dürfen am Gateway und im Modell-Register alles.",
    },
}
WORDS: Mapping[str, str] = {
    "en": """\
Invitation to {site}

Address    {url}
Registry   {url}mlflow/
Account    {name}
Password   {password}

{allows}
{teams}
From Python or a shell:
  export MLFLOW_TRACKING_URI={url}mlflow
  export MLFLOW_TRACKING_USERNAME={name}
  (and the password in MLFLOW_TRACKING_PASSWORD; the site's authority in REQUESTS_CA_BUNDLE)

The password is yours alone: keep it in a password manager, and delete this file.
Should somebody else have seen it, or should you lose it, ask who looks after the platform for a new
one. It is made by raising "renewed" of {name} in mlops_people; the old one ends with that run. A
password that you change in the model registry yourself holds until the next run.
""",
    "de": """\
Einladung zu {site}

Adresse    {url}
Register   {url}mlflow/
Konto      {name}
Passwort   {password}

{allows}
{teams}
Von Python oder einer Shell aus:
  export MLFLOW_TRACKING_URI={url}mlflow
  export MLFLOW_TRACKING_USERNAME={name}
  (und das Passwort in MLFLOW_TRACKING_PASSWORD, die Zertifizierungsstelle in REQUESTS_CA_BUNDLE)

Das Passwort gehört Ihnen allein: Legen Sie es in einem Passwortspeicher ab und löschen Sie diese
Datei. Hat es jemand anders gesehen, oder ist es verloren, bitten Sie die Betreuer der Plattform um
ein neues. Es entsteht, indem "renewed" von {name} in mlops_people um eins erhöht wird; das alte
endet mit diesem Lauf. Ein Passwort, das Sie im Modell-Register selbst ändern, gilt bis zum nächsten
Lauf.
""",
}
TEAMS: Mapping[str, str] = {"en": "Your teams: {teams}.\n", "de": "Ihre Teams: {teams}.\n"}


@dataclass(frozen=True)
class Around:
    """What an invitation says of the site."""

    site: str
    url: str
    language: str = "en"


def file_of(name: str) -> str:
    """The name of the file; those of a directory that have no such name are not ours."""
    return f"{name}.invitation.txt"


def invitation(person: Person, password: str, around: Around, teams: tuple[str, ...] = ()) -> str:
    """The text of the file, in the language of the site."""
    language = around.language if around.language in WORDS else "en"
    return WORDS[language].format(
        site=around.site,
        url=around.url,
        name=person.name,
        password=password,
        allows=ALLOWS[language][person.rights],
        teams=TEAMS[language].format(teams=", ".join(teams)) if teams else "",
    )
