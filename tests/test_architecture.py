"""Networks as values: layers, shapes and names, against numbers written down from the papers and from torchvision."""

import pytest

from jaxstyle.architecture import ARCHITECTURES, STRIDE, VGG16, VGG19, Architecture
from jaxstyle.errors import SettingsError

VGG13 = Architecture("vgg13", (2, 2, 2, 2, 2))
"""What a third network takes."""


def test_the_convolutions_are_those_of_the_paper():
    """Columns B, D and E of table 1: 10, 13 and 16 convolutions."""
    assert [len(one.layers) for one in (VGG13, VGG16, VGG19)] == [10, 13, 16]
    assert VGG16.layers[:3] == ("block1_conv1", "block1_conv2", "block2_conv1") and VGG16.layers[-1] == "block5_conv3"
    assert set(VGG19.layers) - set(VGG16.layers) == {"block3_conv4", "block4_conv4", "block5_conv4"}
    assert [VGG19.channels(f"block{n}_conv2") for n in (1, 2, 3, 4, 5)] == [64, 128, 256, 512, 512]


@pytest.mark.parametrize(
    ("network", "parameters"), [(VGG13, 9_404_992), (VGG16, 14_714_688), (VGG19, 20_024_384)], ids=["13", "16", "19"]
)
def test_the_number_of_parameters_is_that_of_keras_and_torchvision(network, parameters):
    """Without the dense layers."""
    assert sum(9 * i * o + o for _, _, i, o in network.kernel_shapes.values()) == parameters
    assert all(shape[:2] == (3, 3) for shape in network.kernel_shapes.values())


def test_the_indices_are_torchvisions():
    assert VGG13.torch_indices == (0, 2, 5, 7, 10, 12, 15, 17, 20, 22)
    assert VGG16.torch_indices == (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert VGG19.torch_indices == (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


def test_layers_have_two_names():
    assert VGG16.layer_name("relu4_2") == VGG16.layer_name("block4_conv2") == "block4_conv2"
    assert VGG19.layer_name("relu4_4") == VGG19.layer_name("block4_conv4") == "block4_conv4"


@pytest.mark.parametrize("wrong", ["relu6_1", "relu2_3", "conv1_1", "", "relu", "relu4_4", "relu_"])
def test_a_name_that_is_no_layer_is_refused_with_those_that_are(wrong):
    with pytest.raises(SettingsError, match="VGG16 has no layer") as caught:
        VGG16.layer_name(wrong)
    assert repr(wrong) in caught.value.what and "relu1_1, relu1_2, relu2_1" in caught.value.remedy


def test_no_pooling_drops_a_row_at_a_working_size():
    for network in ARCHITECTURES.values():
        assert STRIDE % 2 ** (len(network.depths) - 1) == 0
