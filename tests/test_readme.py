"""What the README shows, as it stands there."""

import re
from dataclasses import replace
from pathlib import Path

from nerloop.config import Config, Plugin
from nerloop.plugins import BUILT_IN, find, options_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_plugin_of_the_readme_is_15_lines_at_most_and_trains(tmp_path, monkeypatch):
    from nerloop.config import RunSettings, TrainSettings
    from nerloop.train import train

    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "my_plugin.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert options_of(find("alignment", "my_plugin.Clipped")) == ["letters", "max_length"]
    config = Config(
        alignment=Plugin("my_plugin.Clipped", {"letters": 12}),
        train=TrainSettings(max_steps=2, batch_size=4),
        run=RunSettings(dir=str(tmp_path / "run"), log_level="error"),
    )
    assert train(config)["alignment"] == "my_plugin.Clipped"
    assert replace(config).alignment.options == {"letters": 12}


def test_every_file_of_the_package_is_in_the_readme_and_no_other():
    table = README.split("| file | what is in it |")[1].split("\n\n")[0]
    named = {name for name in re.findall(r"`(?:nerloop/)?(\w+)(?:\.py|/)`", table) if name not in ("recipes", "launch")}
    there = {p.stem for p in (ROOT / "nerloop").iterdir()} - {"__init__", "__pycache__", "py"}
    assert len(there) > 20
    assert named == there


def test_every_setting_of_the_readme_exists():
    table = README.split("| setting | default | meaning |")[1].split("\n\n")[0]
    names = [n for row in table.splitlines()[2:] for n in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    assert len(names) > 15
    for name in names:
        assert name in Config().to_flat() or name in BUILT_IN, name
