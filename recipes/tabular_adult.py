"""Adult: does a person of the 1994 census earn more than 50,000 dollars a year?

    python recipes/tabular_adult.py --data FOLDER

32,561 training rows of fourteen columns (a stratified tenth of them validates) and 16,281 test rows. Four epochs took
3 to 7 minutes on one busy core with nano.
"""

import metatx
from metatx.cli.scripts import recipe_command

RECIPE = metatx.Recipe(
    name="Adult",
    place="tabular/adult",
    source="the UCI Machine Learning Repository (doi:10.24432/C5XW20)",
    spec=metatx.TaskSpec(modality="tabular", target="income", head="classification", tokenizer_options={"bins": 128}),
    settings=metatx.TrainingSettings(epochs=4, batch_size=256, lr=2e-3),
    published={"Meta-Transformer-B16, frozen": {"accuracy": 0.859}, "NBTree (adult.names)": {"accuracy": 0.859}},
)

if __name__ == "__main__":
    recipe_command(RECIPE)
