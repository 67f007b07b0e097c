"""Phrases that are put around templates and around names, the same in all splits of the demo corpus.

The templates of the test split are new to a model; these phrases are the part of the context that it knows. The
notation is that of `news.py`.
"""

from __future__ import annotations

LEADS = (
    "On {day} ,",
    "Late on {day} ,",
    "In {month} ,",
    "In {year} ,",
    "In {place} ,",
    "In {country} ,",
    "In {region} ,",
    "Meanwhile ,",
    "However ,",
    "According to {surname} ,",
    "According to the {paper} ,",
    "According to the {agency} ,",
    "{person} said",
    "{surname} said",
    "{office} {surname} said",
    "{honour} {surname} said",
    "The {agency} said",
    "{company} said",
    "The {paper} said",
)
"""Before a sentence."""

TAILS = (
    ", {surname} said",
    ", {person} said",
    ", said {person}",
    ", {office} {surname} said",
    ", {honour} {surname} told reporters",
    ", the {agency} said",
    ", the {paper} reported",
    ", {company} said",
    ", {company} [chairman|chief executive|spokesman] {person} said",
    ", a {people} {job} said",
    ", a {job} said",
    "on {day}",
    "in {month}",
    "in {year}",
    "in {place}",
    "in {country}",
    "near {place}",
)
"""After a sentence, before its full stop."""

AROUND = {
    "person": (
        "{office} {person}",
        "{honour} {person}",
        "{person} , {n} ,",
        "{person} , a {people} {job} ,",
        "{people} {job} {person}",
        "{people} {office} {person}",
        "{person} of {country}",
        "{person} of {company}",
        "{person} of the {party}",
        "{person} ( {country} )",
        "{company} [chairman|chief executive|spokesman] {person}",
        "{club} {role} {person}",
        "{people} {role} {person}",
    ),
    "surname": (
        "{office} {surname}",
        "{honour} {surname}",
        "{honour} {surname}",
        "{surname} , {n} ,",
        "{surname} , the {people} {role} ,",
        "{surname} , the {people} {office} ,",
        "{surname} , who was born in {place} ,",
        "{surname} , leader of the {party} ,",
        "{surname} , chairman of {company} ,",
    ),
    "place": (
        "{place} , {region} ,",
        "{place} in {country}",
        "{place} in {region}",
        "{place} and {place}",
        "the {people} [city|town|port] of {place}",
        "the town of {place}",
        "{place} on the {water}",
    ),
    "city": ("the {people} capital {city}", "{city} and {city}", "{city} in {country}"),
    "country": ("{country} and {country}", "{country} , {country} and {country}", "neighbouring {country}"),
    "region": ("{region} in {country}", "the {people} region of {region}", "{region} and {region}"),
    "company": (
        "{people} [firm|group|bank|retailer] {company}",
        "{company} and {company}",
        "{company} of {country}",
        "{company} , a {people} [firm|group|bank] ,",
    ),
    "club": (
        "{club} and {club}",
        "{people} [champions|leaders|club] {club}",
        "second-placed {club}",
        "{club} of {country}",
    ),
    "agency": ("{agency} in {city}", "{agency} and the {agency}"),
    "school": ("{school} in {place}",),
    "cup": ("{cup} in {place}", "{year} {cup}"),
    "event": ("{event} in {place}", "{year} {event}"),
    "brand": ("{company} {brand}", "new {brand}", "{brand} and the {brand}"),
}
"""Replace a name, by its kind, if a lower-case word or nothing comes before it."""
