"""FLOPs and weights of models, by hand."""

from configuration import catalogue_of

from overtrain.model.architecture import Architecture
from overtrain.planning.formulas import Size


def size_of(name: str) -> Size:
    return Size.of(catalogue_of().settings.models[name].architecture)


def test_weights_are_those_of_the_model_as_built():
    for name in ("OLMo-15M", "OLMo-30M", "OLMo-90M"):
        shape = catalogue_of().settings.models[name].architecture
        counted = Architecture(**shape.plain()).parameter_counts()
        assert (size_of(name).weights, size_of(name).trunk) == (
            counted["total"],
            counted["non_embedding"],
        )


def test_a_token_of_pretraining_costs_six_operations_a_weight_and_attention():
    """OLMo-15M by hand: 3 layers of 192, MLP 768, 50,304 tokens, windows of 1,024."""
    layers = 3 * (4 * 192**2 + 3 * 192 * 768)
    head = 50304 * 192
    attention = 3 * 2 * 192 * 1024  # forward: scores and sums, half of them masked
    assert (layers, head) == (1_769_472, 9_658_368)
    assert size_of("OLMo-15M").training(1024) == 6 * (layers + head) + 3 * attention == 72_105_984


def test_released_shapes_have_the_weights_that_their_cards_say():
    shapes = catalogue_of().settings.shapes
    weights = {name: Size.of(shape).weights / 1e9 for name, shape in shapes.items()}
    assert [round(weights[name], 2) for name in ("1B", "7B", "70B")] == [1.18, 7.30, 70.55]


def test_only_scored_tokens_have_logits_and_recomputing_adds_a_forward_pass():
    size = size_of("OLMo-15M")
    assert size.forward(10) - size.forward(10, scored=0.25) == 0.75 * 2 * size.head
    assert size.recomputed(10) == 4 * size.forward(10)
    assert size.curvature(10, directions=2) == 15 * size.forward(10)


def test_a_group_of_query_heads_shares_keys_and_values():
    """Llama 3 70B: 80 layers, 1,024 numbers of keys and of values a token, two bytes each."""
    assert Size.of(catalogue_of().settings.shapes["70B"]).cache() == 80 * 2 * 1024 * 2
