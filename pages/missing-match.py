"""What if the right report may not be in the pool? What an attacker gains who may keep silent."""

import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads, palette
from explorer.frame import controls, kept, page, state
from explorer.risk import missing_match
from linkage_core.ranking.pools import log_pool_sizes

RULES = {"score": "Top score", "margin": "Margin to the second"}

page.guard()
st.title("What if the right report may not be in the pool?")
colours = palette.current()

with page.guarded():
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        model = controls.model_control("missing model")
        # without the match there is one report less to fill the pool with
        steps = log_pool_sizes(kept.study(state.cohort(), model).common_pool - 1)
        pool_size = steps[0]
        if len(steps) > 1:
            pool_size = controls.pool_slider(steps, "missing slider", filled=range(steps[0], steps[-1] + 1))
        prior = controls.prior_slider("missing prior")
        # the curve is the same at every prior; at 0 it is taken from any other
        rule = state.get("rule")
        world = kept.missing_match(state.cohort(), model, pool_size, rule, prior or 100)
        precisions = {w: str(w) for w in state.WANTED_CHOICES}
        wanted = controls.choice(
            "wanted",
            "Wants to be right, of 100",
            precisions,
            key="missing wanted",
            usual=missing_match.with_an_answer(world, state.WANTED_CHOICES),
        )
    label = state.model_label(model)
    said = missing_match.answer(world, prior, wanted)
    small = missing_match.facts(world, prior, wanted, label)
    if isinstance(said, str):
        page.headline("", said, small=small, kind="mm-answer")
    else:
        before, count, rest, line = said
        page.headline(count, rest, line, before=before, small=small, kind="mm-answer")

    models = state.models()

    def draw(with_colours: palette.Palette) -> go.Figure:
        return missing_match.tradeoff(
            world,
            prior=prior,
            wanted=wanted,
            style=with_colours.styles(models)[model],
            label=label,
            palette=with_colours,
        )

    left, right = st.columns([0.6, 0.4], gap="medium")
    with left:
        st.plotly_chart(
            draw(colours),
            theme=None,
            config=charts.CONFIG,
            key="tradeoff",
            alt=missing_match.tradeoff_words(world, prior, wanted),
        )
    with right:
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            with st.popover(f"Rule: {RULES[rule].lower()}", icon=":material/rule:"):
                controls.choice("rule", "The attacker answers when this is high enough", RULES, key="missing rule")
            st.space("stretch")
            about = page.provenance(pool_size, world.n_test[0])
            name = page.file_name("missing-match", state.cohort(), model, rule, f"N{pool_size}", f"prior{prior}")
            asked = {
                "synthetic": state.synthetic(),
                "cohort": state.cohort(),
                "model": model,
                "rule": rule,
                "pool_size": pool_size,
                "prior": (prior or 100) / 100,
            }
            chosen, whole = (missing_match.filed(table, asked) for table in (world.operating, world.curve))
            title = f"{label}: rightly against falsely linked"
            page.save(
                ("Thresholds chosen (CSV)", f"{name}-thresholds.csv", lambda: downloads.csv(chosen)),
                ("Curve (CSV)", f"{name}-curve.csv", lambda: downloads.csv(whole)),
                (
                    "Picture (SVG)",
                    f"{name}.svg",
                    lambda: downloads.svg(draw(palette.LIGHT), title=title, subtitle=about),
                ),
            )
        attackers = missing_match.attackers(world, prior, wanted)
        st.html(missing_match.arrays(attackers, colours, missing_match.unsaid(world) or "too few to say"))
    with st.expander("Details: all wanted precisions, and what the words mean", icon=":material/table:"):
        st.dataframe(missing_match.readable(world), hide_index=True, height=180)
        st.markdown(missing_match.details(world))
page.cannot_tell(
    "how likely the right report really is to be in an attacker's pool (set above, not measured); "
    "what an attacker with a better rule would do."
)
