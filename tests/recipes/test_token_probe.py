"""The probe of tokens: what is said plainly is read, noise is not."""

import numpy as np
import pandas as pd
import pytest
import token_probe as recipe


@pytest.mark.parametrize("plain", [True, False])
def test_token_probe(tmp_path, capsys, plain) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "time_series" / "japanese_vowels"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        label = np.arange(60) % 3
        series = rng.normal(size=(60, 10, 12)) + 2 * plain * label[:, None, None]
        frame = pd.DataFrame({"series": [one.tolist() for one in series], "label": label.astype(str)})
        frame.to_parquet(folder / f"{split}.parquet")
    found = recipe.main(only="japanese_vowels", data=str(tmp_path), samples=45)["japanese_vowels"]
    assert "Japanese Vowels, 45 training samples: pretrained" in capsys.readouterr().out
    assert list(found) == ["pretrained", "random", "no blocks"]
    assert all(score > 0.9 if plain else score < 0.65 for score in found.values())
    still = recipe.main(only="japanese_vowels", data=str(tmp_path), samples=45, branches=0.0)["japanese_vowels"]
    assert still["pretrained"] == still["no blocks"]
    with pytest.raises(ValueError, match="Did you mean 'esol'"):
        recipe.main(only="esool", data=str(tmp_path))
