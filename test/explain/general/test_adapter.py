"""The adapter for any network: the same as the VGG adapter on a VGG, and as autograd, hooks and captum elsewhere."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import captum.attr
import numpy as np
import pytest
import torch
from explain_kit import threshold_between
from networks_kit import CLASSES, KINDS, SIZE, small_classifier, small_network, whole
from torch import Tensor, nn
from torch.nn import functional

from explain_cnn_ros.explain import explainer as explainer_module
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.general import adapter as adapter_module
from explain_cnn_ros.explain.general.adapter import GeneralAdapter, unsuited
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Start
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.model.output import margin
from explain_cnn_ros.scan.classifier import PersonClassifier

SETTINGS = ExplainSettings(perturbations=4, top_n=2, silencing_draws=2, compute_precision="float32")

#: The networks whose activations are modules, to which hooks can be added.
HOOKED = [name for name, kind in KINDS.items() if all(kind.activations.values())]


def pixels_of(adapter: NetworkAdapter, picture: Callable, count: int = 3) -> Tensor:
    size = adapter.classifier.info.input_size
    return adapter.classifier.to_pixels(np.stack([picture(*size, seed) for seed in range(count)]))


@pytest.fixture(scope="module")
def vgg(exact: PersonClassifier) -> VGGAdapter:
    return VGGAdapter(exact)


@pytest.fixture(scope="module")
def general(exact: PersonClassifier) -> GeneralAdapter:
    return GeneralAdapter(exact, exact.network)


@pytest.fixture(scope="module")
def vgg_pixels(vgg: VGGAdapter, picture) -> Tensor:
    return pixels_of(vgg, picture)


class TestOnAVGG:
    """Both adapters of the same thin VGG-16 in float64."""

    def test_layers(self, vgg: VGGAdapter, general: GeneralAdapter) -> None:
        assert list(general.layers) == list(vgg.layers)
        assert [layer.channels for layer in general.layers.values()] == [
            layer.channels for layer in vgg.layers.values()
        ]
        assert [general.layers[number].name for number in (1, 2, 13)] == ["features.0", "features.2", "features.28"]

    @pytest.mark.parametrize("gradients", ["", "logit", "probability"])
    @pytest.mark.parametrize("pre_relu", [False, True])
    def test_traces(self, vgg, general, vgg_pixels, gradients: str, pre_relu: bool) -> None:
        layers = range(2, 14)
        options = {"gradients": gradients, "pre_relu": pre_relu, "record": "deconvnet"}
        with torch.inference_mode():
            one, other = (adapter.trace(vgg_pixels, layers, **options) for adapter in (vgg, general))
        torch.testing.assert_close(other.logits, one.logits, rtol=1e-9, atol=1e-12)
        for name in ("activations", "influences", "contributions"):
            expected, found = getattr(one, name), getattr(other, name)
            assert found.keys() == expected.keys()
            for layer in expected:
                torch.testing.assert_close(found[layer], expected[layer], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("direction", ["incoming", "outgoing"])
    def test_weights(self, vgg, general, direction: str) -> None:
        for layer in vgg.layers:
            expected, found = (adapter.weights(layer, direction).flatten(1) for adapter in (vgg, general))
            assert torch.equal(found.sort(1).values, expected.sort(1).values)

    def test_reconstructions(self, vgg, general, vgg_pixels) -> None:
        with torch.inference_mode():
            one, other = (a.trace(vgg_pixels, range(1, 14), record="deconvnet") for a in (vgg, general))
            strongest = {layer: maps[0].flatten(1).argmax(1).tolist() for layer, maps in one.activations.items()}
            starts = [
                Start(Neuron(layer, channel), strongest[layer][channel] if channel else None)
                for layer, channel in itertools.product((1, 2, 5, 9, 13), range(4))
            ]
            expected, found = (
                whole(adapter.reconstruct(trace, starts, "deconvnet"), (32, 64))
                for adapter, trace in ((vgg, one), (general, other))
            )
        assert list(found) == starts
        assert sum(bool(found[start].any()) for start in starts) >= 15
        for start in starts:
            torch.testing.assert_close(found[start], expected[start], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("values", [None, {3: 0.5, 9: -1.0}])
    def test_silenced_passes(self, vgg, general, vgg_pixels, values: Mapping[int, float] | None) -> None:
        sets: list[dict[int, list[int]]] = [{3: [1, 2], 9: [4]}, {}, {13: [0]}, {1: [2], 2: []}]
        if values is not None:
            sets = [{layer: c for layer, c in one.items() if layer in values} for one in sets]
        by_layer = {
            layer: torch.full((vgg.layers[layer].channels,), value).double() for layer, value in (values or {}).items()
        }
        with torch.inference_mode():
            expected, found = (a.silence(vgg_pixels[:1], sets, "float32", by_layer) for a in (vgg, general))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(found[0], found[1])

    def test_explanations(self, exact: PersonClassifier, window, monkeypatch) -> None:
        settings = dataclasses.replace(SETTINGS, layers=(3, 5, 7, 9))
        one = Explainer(exact, settings).explain(window)
        with monkeypatch.context() as patched:
            patched.setattr(explainer_module, "adapt", lambda classifier: GeneralAdapter(classifier, exact.network))
            other = Explainer(exact, settings).explain(window)
        for expected, found in zip(one.rankings, other.rankings, strict=True):
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9, atol=1e-12)
            assert [(n.channel, n.patch) for n in found.neurons] == [(n.channel, n.patch) for n in expected.neurons]
        for expected, found in zip(one.silencing, other.silencing, strict=True):
            assert found.output == pytest.approx(expected.output, rel=1e-6)
            assert found.random_outputs == pytest.approx(expected.random_outputs, rel=1e-6)
        for expected, found in zip(one.proofs, other.proofs, strict=True):
            assert found.measured == pytest.approx(expected.measured, rel=1e-6)
            assert expected.measured != 0


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(kind: str) -> nn.Module:
    """Return a small network in float64. It is shared, so tests must not modify it."""
    return small_network(kind)


@pytest.fixture(scope="module")
def adapter(network: nn.Module) -> GeneralAdapter:
    found = adapt(small_classifier(network))
    assert isinstance(found, GeneralAdapter)
    return found


@pytest.fixture(scope="module")
def pixels(adapter: GeneralAdapter, picture) -> Tensor:
    return pixels_of(adapter, picture)


def hooked(network: nn.Module, names: Sequence[str], change: Callable[[int, Tensor], Tensor]) -> nn.Module:
    """Return a copy of a network whose modules hand their outputs to a function, with the module's index."""
    # In-place modules would change what the hooks see.
    network = copy.deepcopy(network)
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    for index, name in enumerate(names):
        hook = network.get_submodule(name).register_forward_hook
        hook(lambda _module, _inputs, output, index=index: change(index, output))
    return network


class TestLayers:
    def test_are_the_convolutions_with_maps(self, kind: str, adapter: GeneralAdapter) -> None:
        assert [layer.name for layer in adapter.layers.values()] == list(KINDS[kind].activations)
        assert list(adapter.layers) == list(range(1, len(adapter.layers) + 1))

    def test_channels(self, network: nn.Module, adapter: GeneralAdapter) -> None:
        for layer in adapter.layers.values():
            assert layer.channels == network.get_submodule(layer.name).out_channels

    def test_the_last_of_each_stage_is_explained_by_default(self) -> None:
        adapter = adapt(small_classifier(small_network("mobile")))
        # Maps of 16 x 20 pixels, more than 0.3 of the window, and of 8 x 10.
        assert [adapter.layers[number].name for number in adapter.default_layers] == ["grouped.0"]

    def test_another_default_device_has_no_effect(self) -> None:
        """The image of the search is drawn on the CPU, as its generator demands."""
        classifier = small_classifier(small_network("dense"))
        with torch.device("meta"):
            assert len(adapt(classifier).layers) == 3

    def test_a_convolution_that_runs_twice_is_left_out(self) -> None:
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.two(self.two(self.one(x))).mean((2, 3)))

        assert [layer.name for layer in adapt(small_classifier(Twice().eval())).layers.values()] == ["one"]

    @pytest.mark.parametrize(
        ("patterns", "names"),
        [("first", ["first"]), ("f*,down", ["first", "down"]), (" second , first", ["first", "second"]), ("*", None)],
    )
    def test_by_name(self, patterns: str, names: list[str] | None) -> None:
        adapter = adapt(small_classifier(small_network("residual")))
        found = [adapter.layers[number].name for number in adapter.layers_named(patterns)]
        assert found == (names or list(KINDS["residual"].activations))

    def test_a_name_that_does_not_exist(self) -> None:
        adapter = adapt(small_classifier(small_network("residual")))
        with pytest.raises(ValueError, match=r"layer_names is 'down,secnd': no layer of .* 'secnd'.*second"):
            adapter.layers_named("down,secnd")
        with pytest.raises(ValueError, match=r"for instance, stem\.0, first, down"):
            adapter.layers_named("zzz")


class TestTraces:
    @staticmethod
    def reference(network: nn.Module, names: Sequence[str], adapter: GeneralAdapter, pixels: Tensor) -> dict:
        """Return activations, influences, contributions and logits by hooks and autograd."""
        outputs: dict[int, Tensor] = {}

        def keep(index: int, output: Tensor) -> Tensor:
            outputs[index] = output
            return output.clone()

        batch = adapter.classifier.normalise(pixels).requires_grad_()
        logits = hooked(network, names, keep)(batch)
        gradients = torch.autograd.grad(margin(logits, 1).sum(), list(outputs.values()))
        found = {"logits": logits.detach()}
        for (index, values), gradient in zip(outputs.items(), gradients, strict=True):
            product = (values * gradient).detach()
            found |= {f"a{index}": values.detach(), f"i{index}": product.sum((2, 3)), f"c{index}": product[0]}
        return found

    @pytest.mark.parametrize("kind", HOOKED, indirect=True)
    def test_activations_and_influences(self, kind: str, network: nn.Module, adapter, pixels: Tensor) -> None:
        reference = self.reference(network, list(KINDS[kind].activations.values()), adapter, pixels)
        with torch.inference_mode():
            trace = adapter.trace(pixels, adapter.layers, gradients="logit", record="deconvnet")
        torch.testing.assert_close(trace.logits, reference["logits"], rtol=1e-9, atol=1e-12)
        for layer in adapter.layers:
            index = layer - 1
            for values, name in ((trace.activations, "a"), (trace.influences, "i"), (trace.contributions, "c")):
                torch.testing.assert_close(values[layer], reference[f"{name}{index}"], rtol=1e-9, atol=1e-12)

    def test_some_layers_have_what_all_have(self, adapter: GeneralAdapter, pixels: Tensor) -> None:
        """Gradients lead down to the lowest requested layer only."""
        every = adapter.trace(pixels, adapter.layers, gradients="logit")
        for layer in adapter.layers:
            alone = adapter.trace(pixels, [layer], gradients="logit")
            assert list(alone.influences) == [layer]
            torch.testing.assert_close(alone.influences[layer], every.influences[layer], rtol=1e-9, atol=1e-12)

    def test_functions_are_activations_too(self, picture) -> None:
        network = small_network("dense")
        adapter = adapt(small_classifier(network))
        pixels = pixels_of(adapter, picture)
        batch = adapter.classifier.normalise(pixels)
        before = network.first(batch)
        for pre_relu, expected in ((False, before.relu()), (True, before)):
            trace = adapter.trace(pixels, adapter.layers, pre_relu=pre_relu)
            torch.testing.assert_close(trace.activations[1], expected, rtol=1e-9, atol=1e-12)
        both = adapter.trace(pixels, [1, 2]).activations
        torch.testing.assert_close(both[2], network.second(both[1]).relu(), rtol=1e-9, atol=1e-12)

    def test_a_layer_without_a_path_to_the_output_has_no_influence(self, picture) -> None:
        class Unused(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.unused, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                maps = self.used(x)
                self.unused(x)
                return self.head(maps.mean((2, 3)))

        adapter = adapt(small_classifier(Unused().eval()))
        trace = adapter.trace(pixels_of(adapter, picture), [1, 2], gradients="logit")
        assert trace.influences[1].any()
        assert trace.influences[2].tolist() == [[0.0] * 5] * 3

    def test_nothing_is_left_behind(self, network: nn.Module, adapter, pixels, network_state) -> None:
        before = network_state(network)
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.inference_mode():
            trace = adapter.trace(pixels, adapter.layers, gradients="logit", record="guided")
            adapter.reconstruct(trace, [Start(Neuron(2, 0), 3)], "guided")
            adapter.silence(pixels[:1], [{1: [0]}])
        assert network_state(network) == before
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
        assert not any(tensor.requires_grad for tensor in (*trace.activations.values(), trace.logits))


class TestOutgoingWeights:
    def test_are_those_of_the_readers(self, kind: str, network: nn.Module, adapter: GeneralAdapter) -> None:
        for layer in adapter.layers.values():
            for channel in range(layer.channels):
                expected: list[float] = []
                for name, first, norm in KINDS[kind].outgoing[layer.name]:
                    reader, at = network.get_submodule(name), first + channel
                    if isinstance(reader, nn.Linear):
                        size = reader.in_features // layer.channels
                        weight = reader.weight[:, at * size : (at + 1) * size]
                    else:
                        of_group = reader.in_channels // reader.groups
                        outputs = reader.out_channels // reader.groups
                        group = slice(at // of_group * outputs, (at // of_group + 1) * outputs)
                        weight = reader.weight[group, at % of_group]
                        if norm:
                            bn = network.get_submodule(norm)
                            scale = (bn.weight / (bn.running_var + bn.eps).sqrt())[group]
                            weight = weight * scale.view(-1, 1, 1)
                    expected += weight.flatten().tolist()
                found = adapter.weights(layer.number, "outgoing")[channel].flatten().tolist()
                assert sorted(found) == pytest.approx(sorted(expected), rel=1e-9)

    def test_incoming_weights_have_the_batch_norm_in_them(self) -> None:
        network = small_network("residual")
        adapter = adapt(small_classifier(network))
        norm = network.first_norm
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        torch.testing.assert_close(adapter.weights(2, "incoming"), network.first.weight * scale.view(-1, 1, 1, 1))
        torch.testing.assert_close(adapter.weights(4, "incoming"), network.down.weight)

    def test_neurons_without_readers_have_no_weights(self) -> None:
        class Maps(nn.Module):
            """The last convolution has a map for each class, as SqueezeNet's."""

            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)

            def forward(self, x: Tensor) -> Tensor:
                return self.two(self.one(x)).relu().mean((2, 3))

        adapter = adapt(small_classifier(Maps().eval()))
        assert adapter.weights(2, "outgoing").isnan().all()
        assert adapter.default_layers == (1,)

    def test_a_channel_shuffle(self) -> None:
        class Shuffle(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                x = self.one(x)
                x = x.view(len(x), 2, 3, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
                return self.head(self.two(x).mean((2, 3)))

        network = Shuffle().eval().requires_grad_(False)
        found = adapt(small_classifier(network)).weights(1, "outgoing")
        order = torch.arange(6).view(2, 3).t().flatten()
        expected = torch.empty_like(found)
        expected[order] = network.two.weight[:, :, 0, 0].t()
        assert torch.equal(found, expected)


class TestReconstructions:
    @pytest.mark.parametrize(
        ("method", "attribution"),
        [("deconvnet", captum.attr.NeuronDeconvolution), ("guided", captum.attr.NeuronGuidedBackprop)],
    )
    def test_are_those_of_captum(self, picture, method: str, attribution: type) -> None:
        """captum gives the gradient of the neuron; the deconvnet passes its activation back."""
        network = small_network("residual")
        self.assert_captum(network, "residual", picture, method, attribution)

    def test_smooth_activation_functions_have_their_true_gradient(self, picture) -> None:
        class Smooth(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.act, self.two = nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 5, 3)
                self.head = nn.Linear(5, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.two(self.act(self.one(x))).mean((2, 3)))

        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Smooth().double().eval().requires_grad_(False)
        adapter = adapt(small_classifier(network))
        pixels = pixels_of(adapter, picture, 1)
        start = Start(Neuron(2, 3), 37)
        trace = adapter.trace(pixels, adapter.layers, record="deconvnet")
        (part,) = adapter.reconstruct(trace, [start], "deconvnet")
        image = adapter.classifier.normalise(pixels).requires_grad_()
        (expected,) = torch.autograd.grad(network.two(network.act(network.one(image)))[0, 3].flatten()[37], image)
        place = (3, *map(int, np.unravel_index(37, trace.activations[2].shape[2:])))
        captums = captum.attr.NeuronGradient(network, network.two).attribute(image, place)
        torch.testing.assert_close(captums, expected, rtol=1e-9, atol=1e-12)
        activation = trace.activations[2][0, 3].flatten()[37]
        torch.testing.assert_close(part.pixels, expected * activation, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("method", ["deconvnet", "guided"])
    @pytest.mark.parametrize(
        "rectifier",
        [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0, 100), functional.relu6],
        ids=["ReLU6", "in place", "Hardtanh", "function"],
    )
    def test_relu6_is_a_rectifier(self, picture, rectifier: Callable[[Tensor], Tensor], method: str) -> None:
        """Below 6, the reconstructions are those of a network with ReLUs."""

        class Two(nn.Module):
            def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
                super().__init__()
                self.act = act
                with torch.random.fork_rng():
                    torch.manual_seed(0)
                    self.one, self.two, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3), nn.Linear(5, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.act(self.two(self.act(self.one(x)))).mean((2, 3)))

        def reconstruction(act: Callable[[Tensor], Tensor]) -> Tensor:
            adapter = adapt(small_classifier(Two(act).double().eval().requires_grad_(False)))
            trace = adapter.trace(pixels_of(adapter, picture, 1), adapter.layers, record=method)
            maps = trace.activations[2][0]
            assert trace.activations[1].amax() < 6
            channel = int(maps.amax((1, 2)).argmax())
            start = Start(Neuron(2, channel), int(maps[channel].argmax()))
            (part,) = adapter.reconstruct(trace, [start], method)
            return part.pixels

        torch.testing.assert_close(reconstruction(rectifier), reconstruction(nn.ReLU()), rtol=0, atol=0)

    @staticmethod
    def assert_captum(network: nn.Module, kind: str, picture, method: str, attribution: type) -> None:
        adapter = adapt(small_classifier(network))
        pixels = pixels_of(adapter, picture, 1)
        trace = adapter.trace(pixels, adapter.layers, record=method)
        starts = [
            Start(Neuron(layer, channel), int(trace.activations[layer][0, channel].argmax()))
            for layer, channel in itertools.product(adapter.layers, range(4))
            if trace.activations[layer][0, channel].amax() > 0
        ]
        assert len(starts) > 10
        found = whole(adapter.reconstruct(trace, starts, method), SIZE)
        # captum's hooks need modules that work out of place.
        plain = hooked(network, [], lambda _, output: output)
        names = list(KINDS[kind].activations.values())
        image = adapter.classifier.normalise(pixels)
        for start in starts:
            maps = trace.activations[start.neuron.layer][0]
            place = (start.neuron.channel, *np.unravel_index(start.position, maps.shape[1:]))
            oracle = attribution(plain, plain.get_submodule(names[start.neuron.layer - 1]))
            expected = oracle.attribute(image.clone().requires_grad_(), tuple(map(int, place)))[0]
            torch.testing.assert_close(found[start], (expected * maps[place]).detach(), rtol=1e-9, atol=1e-12)
            assert found[start].any()

    def test_many_starts_come_in_parts_and_in_order(self, adapter: GeneralAdapter, pixels: Tensor) -> None:
        trace = adapter.trace(pixels, adapter.layers, record="deconvnet")
        starts = [Start(Neuron(layer, 0), position) for layer in adapter.layers for position in range(10)]
        parts = adapter.reconstruct(trace, starts, "deconvnet")
        assert [start for part in parts for start in part.starts] == starts
        (alone,) = adapter.reconstruct(trace, [starts[-1]], "deconvnet")
        assert torch.equal(parts[-1].pixels[-1], alone.pixels[0])


class TestSilencedPasses:
    @pytest.mark.parametrize("kind", HOOKED, indirect=True)
    def test_are_those_with_hooks(self, kind: str, network: nn.Module, adapter, pixels, monkeypatch) -> None:
        names = list(KINDS[kind].activations.values())
        last = len(names)
        sets = [{1: [0, 2]}, {}, {last: [1]}, {1: [3], 2: [0, 1], last: [0, 2]}, {2: []}]
        values = {2: torch.linspace(-1, 1, adapter.layers[2].channels, dtype=torch.float64)}
        batch = adapter.classifier.normalise(pixels[:1])
        # Passes of two copies each.
        monkeypatch.setattr(adapter_module, "SILENCED_PIXELS", 2 * SIZE[0] * SIZE[1])
        for constants in ({}, values):
            found = adapter.silence(pixels[:1], sets, values=constants)
            for row, silenced in zip(found, sets, strict=True):

                def change(index: int, output: Tensor, silenced=silenced, constants=constants) -> Tensor:
                    output = output.clone()
                    for channel in silenced.get(index + 1, ()):
                        output[:, channel] = constants[index + 1][channel] if index + 1 in constants else 0
                    return output

                expected = hooked(network, names, change)(batch)[0]
                torch.testing.assert_close(row, expected, rtol=1e-9, atol=1e-12)
            assert not torch.allclose(found[0], found[1])


class TestExplanations:
    def test_every_stage(self, kind: str, adapter: GeneralAdapter, picture) -> None:
        """Influence predicts what silencing one neuron does, since the networks are nearly linear in it."""
        settings = dataclasses.replace(SETTINGS, layer_names="*", perturbation_groups=4, top_n=3)
        explanation = Explainer(adapter.classifier, settings).explain(picture(*SIZE))
        assert explanation.settings.layers == tuple(adapter.layers)
        assert {ranking.layer_name for ranking in explanation.rankings} == set(KINDS[kind].activations)
        proof = explanation.proof("influence")
        assert proof is not None
        assert proof.neurons > 0
        assert proof.error < 0.5
        neurons = [n for r in explanation.rankings if r.metric == "influence" for n in r.neurons]
        assert any(n.patch is not None for n in neurons)
        assert all(n.interval is not None for n in neurons)
        for ranking in explanation.rankings:
            assert np.isfinite(ranking.scores).any()

    def test_the_same_every_time(self, adapter: GeneralAdapter, picture) -> None:
        one, other = (Explainer(adapter.classifier, SETTINGS).explain(picture(*SIZE)) for _ in range(2))
        assert dataclasses.replace(one, timings={}) == dataclasses.replace(other, timings={})

    def test_another_class(self, adapter: GeneralAdapter, picture) -> None:
        """The output is the margin of that class, and the decision is about it."""
        window = picture(*SIZE)
        logits = adapter.classifier.logits(window[None])
        shares = logits.softmax(-1)[0]
        for target, targets in (("", [1]), ("person", [1]), ("forklift", [2]), ("forklift, person", [1, 2])):
            explainer = Explainer(adapter.classifier, dataclasses.replace(SETTINGS, target=target))
            explanation = explainer.explain(window, threshold=0.9)
            assert explanation.output == pytest.approx(float(margin(logits, targets)[0]))
            assert explanation.region.probability == pytest.approx(float(shares[targets].sum()))
            plain = targets == [1]
            assert explanation.threshold == (0.9 if plain else 0.5)
            assert explanation.target == ("person" if plain else ",".join(CLASSES[i] for i in reversed(targets)))
            name = explanation.target.replace(",", " or ")
            shown = explanation.region.probability >= explanation.threshold
            assert explanation.decision == (name if shown else f"no {name}")

    @pytest.mark.parametrize(
        ("target", "reason"),
        [("dog", "no class 'dog'"), ("background,person,forklift", "these are all classes"), ("person,dog", "'dog'")],
    )
    def test_a_class_that_does_not_exist(self, adapter: GeneralAdapter, target: str, reason: str) -> None:
        with pytest.raises(ValueError, match=f"target is '{target}'.*{reason}.*background, person, forklift"):
            Explainer(adapter.classifier, dataclasses.replace(SETTINGS, target=target))

    def test_classes_that_count_as_a_person_together(self, picture) -> None:
        classifier = small_classifier(small_network("dense"), person=("person", "forklift"))
        explanation = Explainer(classifier, SETTINGS).explain(picture(*SIZE))
        p = float(classifier.probability(picture(*SIZE)[None])[0])
        assert explanation.region.probability == pytest.approx(p)
        assert p == pytest.approx(1 - float(classifier.logits(picture(*SIZE)[None]).softmax(-1)[0, 0]))
        assert (explanation.target, explanation.threshold) == ("person", classifier.threshold)

    def test_autocast_around_it_changes_nothing(self, picture) -> None:
        def explain() -> Explanation:
            classifier = small_classifier(small_network("residual", torch.float32))
            return Explainer(classifier, SETTINGS).explain(picture(*SIZE))

        expected = explain()
        with torch.autocast("cpu", torch.bfloat16):
            found = explain()
        assert dataclasses.replace(found, timings={}) == dataclasses.replace(expected, timings={})

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_networks_in_half_precision(self, picture, dtype: torch.dtype) -> None:
        network = small_network("dense", dtype)
        classifier = small_classifier(network)
        explainer = Explainer(classifier, SETTINGS)
        exact = adapt(small_classifier(copy.deepcopy(network).float()))
        for layer in exact.layers:
            assert torch.equal(explainer.adapter.weights(layer, "outgoing"), exact.weights(layer, "outgoing"))
        explanation = explainer.explain(picture(*SIZE))
        p = float(classifier.probability(picture(*SIZE)[None])[0])
        assert explanation.region.probability == pytest.approx(p, abs=0.01)
        assert any(neuron.patch is not None for ranking in explanation.rankings for neuron in ranking.neurons)

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_half_precision_explains_the_decision_of_the_classifier(self, picture, precision: str) -> None:
        """Passes in half precision would decide otherwise, because P(person) is that near to the threshold."""
        classifier, image = small_classifier(small_network("residual", torch.float32)), picture(*SIZE)
        threshold = threshold_between(classifier, image, precision)
        settings = dataclasses.replace(SETTINGS, compute_precision=precision, silencing_draws=0)
        explanation = Explainer(classifier, settings).explain(image, threshold=threshold)
        p = float(classifier.probability(image[None])[0])
        assert explanation.person == (p >= threshold)
        assert explanation.region.probability == pytest.approx(p, rel=1e-5)


class InPlace(nn.Module):
    """Two convolutions. A function changes the values after the first one in place; its result is not used."""

    def __init__(self, activate: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Linear(5, 3)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        self.activate(x)
        return self.head(self.two(x).mean((2, 3)))


class ChannelAttention(nn.Module):
    """Half of CBAM (Woo et al. 2018): a gate for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean, top = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        return x * (self.gate(mean) + self.gate(top)).sigmoid()


class SpatialAttention(nn.Module):
    """The other half of CBAM: a gate for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class TestUnsuited:
    @pytest.mark.parametrize("activate", [nn.ReLU(inplace=True), functional.relu_, Tensor.relu_, nn.SiLU(inplace=True)])
    def test_activations_in_place_whose_result_is_not_used(self, activate: Callable[[Tensor], object]) -> None:
        """The passes of an explanation work out of place, so they would be without the activation function."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = InPlace(activate).eval()
        with pytest.raises(TypeError, match=r"its logits change by .*Assign the result of each activation function"):
            adapt(small_classifier(network))

    def test_more_outputs_than_classes(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        with pytest.raises(ValueError, match=r"the network computes logits \[1, 5\]: they must be \[N, 3\]"):
            adapt(small_classifier(network))

    def test_attention_of_convolutions_is_suited(self, picture) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            block = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), ChannelAttention(8), SpatialAttention())
            network = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
        explainer = Explainer(small_classifier(network), SETTINGS)
        assert [layer.name for layer in explainer.adapter.layers.values()] == ["0.0", "0.3.conv"]
        explanation = explainer.explain(picture(*SIZE))
        assert {ranking.layer_name for ranking in explanation.rankings} == {"0.0"}

    def test_attention_without_convolutions(self) -> None:
        class Attention(nn.Module):
            """Users who write a transformer themselves compute it in this way."""

            def __init__(self) -> None:
                super().__init__()
                self.qkv = nn.Linear(8, 24)

        assert "it is a transformer (Attention)" in unsuited(nn.Sequential(nn.Conv2d(3, 8, 4, 4), Attention()))

    def test_a_transformer(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2)
        network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), layer)
        assert "it is a transformer (MultiheadAttention)" in unsuited(network)
        with pytest.raises(TypeError, match=r"cannot be explained: it is a transformer.*network of convolutions"):
            adapt(small_classifier(network))

    def test_no_convolution(self) -> None:
        with pytest.raises(TypeError, match=r"it has no convolution"):
            adapt(small_classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], 3))))

    def test_no_maps(self) -> None:
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 3))
        with pytest.raises(TypeError, match=r"no convolution with maps"):
            adapt(small_classifier(network.eval()))

    def test_few_large_operations(self) -> None:
        with pytest.raises(ValueError, match=r"networks other than VGGs: set batched to False"):
            Explainer(small_classifier(small_network("dense")), SETTINGS, batched=True)
