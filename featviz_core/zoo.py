"""Which published image classifiers exist, and what do their weights cost? Static data, read without torch.

The 80 classification models of torchvision 0.29 by family, each with its published weights: size, accuracy and
preprocessing are known before anything is downloaded or imported. `tests/test_zoo.py` compares every value with
torchvision and prints the table as it should be when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from featviz_core.errors import ModelError, WeightsError

_URL = "https://download.pytorch.org/models/"
_SWAG = (
    "SWAG weights: trained on 3.6 billion pictures with hashtags, for non-commercial use only (CC BY-NC 4.0, "
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE)."
)
_FEATURES = "Only the convolutional features are trained; the classifier holds no numbers, so there is no prediction."


@dataclass(frozen=True, slots=True)
class ZooWeights:
    """One published set of weights: where it lies, how good it is, and how its pictures were prepared.

    A picture is resized so that its shorter side has `resize_size` pixels, cut to `crop_size` x `crop_size` around
    its centre, scaled to [0, 1], and normalised with `mean` and `std` per channel (R, G, B).
    """

    model: str
    name: str  # the member's name in torchvision's enum, such as "IMAGENET1K_V2"
    url: str
    megabytes: float  # size of the file in units of 2**20 bytes
    accuracy: float | None  # top-1 on ImageNet-1K in percent, 0 to 100; None where the weights cannot classify
    parameters: int  # of the model that takes these weights, auxiliary heads of training not counted
    crop_size: int  # pixels
    resize_size: int  # pixels
    interpolation: str  # "bilinear" or "bicubic"
    min_size: int  # smallest side in pixels that the model accepts
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_classes: int
    note: str  # a licence or a limitation to show beside the name; empty for most
    default: bool  # what `weights="DEFAULT"` stands for

    @property
    def filename(self) -> str:
        """Under which name does torch's hub cache keep the file?"""
        return self.url.rsplit("/", 1)[1]

    @property
    def build_options(self) -> dict[str, object]:
        """What must torchvision's builder be told, so that the weights fit and see what they were trained on?"""
        if self.model in _NORMALISED_LIKE_GOOGLE:
            return {"transform_input": True}
        if self.model.startswith("vit_") and self.min_size != _VIT_SIZE:
            return {"image_size": self.min_size}
        return {}


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One architecture of torchvision, as its builder makes it by default (1000 classes)."""

    name: str
    family: str
    parameters: int
    weights: tuple[ZooWeights, ...]

    @property
    def input_size(self) -> int:
        """Side of the pictures in pixels that a freshly initialised model of this kind is built for."""
        return min(weights.crop_size for weights in self.weights)


def default_weights(name: str) -> ZooWeights:
    """Which weights does `weights="DEFAULT"` stand for? Raises `ModelError` for a model that torchvision lacks."""
    return next(weights for weights in zoo_model(name).weights if weights.default)


def zoo_model(name: str) -> ZooModel:
    """The entry of one architecture. Raises `ModelError` naming similar ones when torchvision lacks it."""
    if name in ZOO:
        return ZOO[name]
    from difflib import get_close_matches

    near = get_close_matches(name, ZOO, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "The names are the keys of featviz_core.zoo.ZOO."
    raise ModelError(f"torchvision has no classification model named '{name[:80]}'.", do=hint)


def zoo_weights(name: str, weights: str) -> ZooWeights:
    """The entry of one set of weights, by its enum name or "DEFAULT". Raises `ModelError`, `WeightsError`."""
    if weights == "DEFAULT":
        return default_weights(name)
    known = zoo_model(name).weights
    for entry in known:
        if entry.name == weights:
            return entry
    choices = ", ".join(entry.name for entry in known)
    raise WeightsError(f"{name} has no weights named '{weights[:80]}'.", do=f"Choose DEFAULT or one of: {choices}.")


_NORMALISED_LIKE_GOOGLE = ("googlenet", "inception_v3")  # they undo ImageNet's normalisation in their first step
_VIT_SIZE = 224  # what torchvision builds a vision transformer for, unless told otherwise
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OTHER_NORMALISATION = {
    ("efficientnet_v2_l", "IMAGENET1K_V1"): ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("vgg16", "IMAGENET1K_FEATURES"): ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
}

# = family
# model parameters
#   weights(* = default) file megabytes accuracy parameters crop_size resize_size interpolation min_size
_TABLE = """
= ResNet
resnet18 11689512
  IMAGENET1K_V1* resnet18-f37072fd.pth 44.661 69.758 11689512 224 256 bilinear 1
resnet34 21797672
  IMAGENET1K_V1* resnet34-b627a593.pth 83.275 73.314 21797672 224 256 bilinear 1
resnet50 25557032
  IMAGENET1K_V1 resnet50-0676ba61.pth 97.781 76.13 25557032 224 256 bilinear 1
  IMAGENET1K_V2* resnet50-11ad3fa6.pth 97.79 80.858 25557032 224 232 bilinear 1
resnet101 44549160
  IMAGENET1K_V1 resnet101-63fe2227.pth 170.511 77.374 44549160 224 256 bilinear 1
  IMAGENET1K_V2* resnet101-cd907fc2.pth 170.53 81.886 44549160 224 232 bilinear 1
resnet152 60192808
  IMAGENET1K_V1 resnet152-394f9c45.pth 230.434 78.312 60192808 224 256 bilinear 1
  IMAGENET1K_V2* resnet152-f82ba261.pth 230.474 82.284 60192808 224 232 bilinear 1
= ResNeXt
resnext50_32x4d 25028904
  IMAGENET1K_V1 resnext50_32x4d-7cdf4587.pth 95.789 77.618 25028904 224 256 bilinear 1
  IMAGENET1K_V2* resnext50_32x4d-1a0047aa.pth 95.833 81.198 25028904 224 232 bilinear 1
resnext101_64x4d 83455272
  IMAGENET1K_V1* resnext101_64x4d-173b62eb.pth 319.318 83.246 83455272 224 232 bilinear 1
resnext101_32x8d 88791336
  IMAGENET1K_V1 resnext101_32x8d-8ba56ff5.pth 339.586 79.312 88791336 224 256 bilinear 1
  IMAGENET1K_V2* resnext101_32x8d-110c445d.pth 339.673 82.834 88791336 224 232 bilinear 1
= Wide ResNet
wide_resnet50_2 68883240
  IMAGENET1K_V1 wide_resnet50_2-95faca4d.pth 131.82 78.468 68883240 224 256 bilinear 1
  IMAGENET1K_V2* wide_resnet50_2-9ba9bcbe.pth 263.124 81.602 68883240 224 232 bilinear 1
wide_resnet101_2 126886696
  IMAGENET1K_V1 wide_resnet101_2-32ee1156.pth 242.896 78.848 126886696 224 256 bilinear 1
  IMAGENET1K_V2* wide_resnet101_2-d733dc28.pth 484.747 82.51 126886696 224 232 bilinear 1
= ConvNeXt
convnext_tiny 28589128
  IMAGENET1K_V1* convnext_tiny-983f1562.pth 109.119 82.52 28589128 224 236 bilinear 32
convnext_small 50223688
  IMAGENET1K_V1* convnext_small-0c510722.pth 191.703 83.616 50223688 224 230 bilinear 32
convnext_base 88591464
  IMAGENET1K_V1* convnext_base-6075fbad.pth 338.064 84.062 88591464 224 232 bilinear 32
convnext_large 197767336
  IMAGENET1K_V1* convnext_large-ea097f82.pth 754.537 84.414 197767336 224 232 bilinear 32
= EfficientNet
efficientnet_b0 5288548
  IMAGENET1K_V1* efficientnet_b0_rwightman-7f5810bc.pth 20.451 77.692 5288548 224 256 bicubic 1
efficientnet_b1 7794184
  IMAGENET1K_V1 efficientnet_b1_rwightman-bac287d4.pth 30.134 78.642 7794184 240 256 bicubic 1
  IMAGENET1K_V2* efficientnet_b1-c27df63c.pth 30.136 79.838 7794184 240 255 bilinear 1
efficientnet_b2 9109994
  IMAGENET1K_V1* efficientnet_b2_rwightman-c35c1473.pth 35.174 80.608 9109994 288 288 bicubic 1
efficientnet_b3 12233232
  IMAGENET1K_V1* efficientnet_b3_rwightman-b3899882.pth 47.184 82.008 12233232 300 320 bicubic 1
efficientnet_b4 19341616
  IMAGENET1K_V1* efficientnet_b4_rwightman-23ab8bcd.pth 74.489 83.384 19341616 380 384 bicubic 1
efficientnet_b5 30389784
  IMAGENET1K_V1* efficientnet_b5_lukemelas-1a07897c.pth 116.864 83.444 30389784 456 456 bicubic 1
efficientnet_b6 43040704
  IMAGENET1K_V1* efficientnet_b6_lukemelas-24a108a5.pth 165.362 84.008 43040704 528 528 bicubic 1
efficientnet_b7 66347960
  IMAGENET1K_V1* efficientnet_b7_lukemelas-c5b4e57e.pth 254.675 84.122 66347960 600 600 bicubic 1
= EfficientNetV2
efficientnet_v2_s 21458488
  IMAGENET1K_V1* efficientnet_v2_s-dd5fe13b.pth 82.704 84.228 21458488 384 384 bilinear 33
efficientnet_v2_m 54139356
  IMAGENET1K_V1* efficientnet_v2_m-dc08266a.pth 208.01 85.112 54139356 480 480 bilinear 33
efficientnet_v2_l 118515272
  IMAGENET1K_V1* efficientnet_v2_l-59c71312.pth 454.573 85.808 118515272 480 480 bicubic 33
= RegNet
regnet_x_400mf 5495976
  IMAGENET1K_V1 regnet_x_400mf-adf1edd5.pth 21.258 72.834 5495976 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_400mf-62229a5f.pth 21.257 74.864 5495976 224 232 bilinear 1
regnet_x_800mf 7259656
  IMAGENET1K_V1 regnet_x_800mf-ad17e45c.pth 27.945 75.212 7259656 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_800mf-94a99ebd.pth 27.945 77.522 7259656 224 232 bilinear 1
regnet_x_1_6gf 9190136
  IMAGENET1K_V1 regnet_x_1_6gf-e3633e7f.pth 35.339 77.04 9190136 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_1_6gf-a12f2b72.pth 35.339 79.668 9190136 224 232 bilinear 1
regnet_x_3_2gf 15296552
  IMAGENET1K_V1 regnet_x_3_2gf-f342aeae.pth 58.756 78.364 15296552 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_3_2gf-7071aa85.pth 58.756 81.196 15296552 224 232 bilinear 1
regnet_x_8gf 39572648
  IMAGENET1K_V1 regnet_x_8gf-03ceed89.pth 151.456 79.344 39572648 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_8gf-2b70d774.pth 151.456 81.682 39572648 224 232 bilinear 1
regnet_x_16gf 54278536
  IMAGENET1K_V1 regnet_x_16gf-2007eb11.pth 207.627 80.058 54278536 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_16gf-ba3796d7.pth 207.627 82.716 54278536 224 232 bilinear 1
regnet_x_32gf 107811560
  IMAGENET1K_V1 regnet_x_32gf-9d47f8d0.pth 412.039 80.622 107811560 224 256 bilinear 1
  IMAGENET1K_V2* regnet_x_32gf-6eb8fdc6.pth 412.039 83.014 107811560 224 232 bilinear 1
regnet_y_400mf 4344144
  IMAGENET1K_V1 regnet_y_400mf-c65dace8.pth 16.806 74.046 4344144 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_400mf-e6988f5f.pth 16.806 75.804 4344144 224 232 bilinear 1
regnet_y_800mf 6432512
  IMAGENET1K_V1 regnet_y_800mf-1b27b58c.pth 24.774 76.42 6432512 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_800mf-58fc7688.pth 24.774 78.828 6432512 224 232 bilinear 1
regnet_y_1_6gf 11202430
  IMAGENET1K_V1 regnet_y_1_6gf-b11a554e.pth 43.152 77.95 11202430 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_1_6gf-0d7bc02a.pth 43.152 80.876 11202430 224 232 bilinear 1
regnet_y_3_2gf 19436338
  IMAGENET1K_V1 regnet_y_3_2gf-b5a9779c.pth 74.567 78.948 19436338 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_3_2gf-9180c971.pth 74.567 81.982 19436338 224 232 bilinear 1
regnet_y_8gf 39381472
  IMAGENET1K_V1 regnet_y_8gf-d0d0e4a8.pth 150.701 80.032 39381472 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_8gf-dc2b1b54.pth 150.701 82.828 39381472 224 232 bilinear 1
regnet_y_16gf 83590140
  IMAGENET1K_V1 regnet_y_16gf-9e6ed7dd.pth 319.49 80.424 83590140 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_16gf-3e4a00f9.pth 319.49 82.886 83590140 224 232 bilinear 1
  IMAGENET1K_SWAG_E2E_V1 regnet_y_16gf_swag-43afe44d.pth 319.49 86.012 83590140 384 384 bicubic 1
  IMAGENET1K_SWAG_LINEAR_V1 regnet_y_16gf_lc_swag-f3ec0043.pth 319.49 83.976 83590140 224 224 bicubic 1
regnet_y_32gf 145046770
  IMAGENET1K_V1 regnet_y_32gf-4dee3f7a.pth 554.076 80.878 145046770 224 256 bilinear 1
  IMAGENET1K_V2* regnet_y_32gf-8db6d4b5.pth 554.076 83.368 145046770 224 232 bilinear 1
  IMAGENET1K_SWAG_E2E_V1 regnet_y_32gf_swag-04fdfa75.pth 554.076 86.838 145046770 384 384 bicubic 1
  IMAGENET1K_SWAG_LINEAR_V1 regnet_y_32gf_lc_swag-e1583746.pth 554.076 84.622 145046770 224 224 bicubic 1
regnet_y_128gf 644812894
  IMAGENET1K_SWAG_E2E_V1* regnet_y_128gf_swag-c8ce3e52.pth 2461.564 88.228 644812894 384 384 bicubic 1
  IMAGENET1K_SWAG_LINEAR_V1 regnet_y_128gf_lc_swag-cbe8ce12.pth 2461.564 86.068 644812894 224 224 bicubic 1
= DenseNet
densenet121 7978856
  IMAGENET1K_V1* densenet121-a639ec97.pth 30.845 74.434 7978856 224 256 bilinear 29
densenet169 14149480
  IMAGENET1K_V1* densenet169-b2777c0a.pth 54.708 75.6 14149480 224 256 bilinear 29
densenet201 20013928
  IMAGENET1K_V1* densenet201-c1103571.pth 77.373 76.896 20013928 224 256 bilinear 29
densenet161 28681000
  IMAGENET1K_V1* densenet161-8d451a50.pth 110.369 77.138 28681000 224 256 bilinear 29
= MobileNet
mobilenet_v3_small 2542856
  IMAGENET1K_V1* mobilenet_v3_small-047dcff4.pth 9.829 67.668 2542856 224 256 bilinear 1
mobilenet_v2 3504872
  IMAGENET1K_V1 mobilenet_v2-b0353104.pth 13.555 71.878 3504872 224 256 bilinear 1
  IMAGENET1K_V2* mobilenet_v2-7ebf99e0.pth 13.598 72.154 3504872 224 232 bilinear 1
mobilenet_v3_large 5483032
  IMAGENET1K_V1 mobilenet_v3_large-8738ca79.pth 21.114 74.042 5483032 224 256 bilinear 1
  IMAGENET1K_V2* mobilenet_v3_large-5c1a4163.pth 21.107 75.274 5483032 224 232 bilinear 1
= MNASNet
mnasnet0_5 2218512
  IMAGENET1K_V1* mnasnet0.5_top1_67.823-3ffadce67e.pth 8.591 67.734 2218512 224 256 bilinear 1
mnasnet0_75 3170208
  IMAGENET1K_V1* mnasnet0_75-7090bc5f.pth 12.303 71.18 3170208 224 232 bilinear 1
mnasnet1_0 4383312
  IMAGENET1K_V1* mnasnet1.0_top1_73.512-f206786ef8.pth 16.915 73.456 4383312 224 256 bilinear 1
mnasnet1_3 6282256
  IMAGENET1K_V1* mnasnet1_3-a4c69d6f.pth 24.246 76.506 6282256 224 232 bilinear 1
= ShuffleNetV2
shufflenet_v2_x0_5 1366792
  IMAGENET1K_V1* shufflenetv2_x0.5-f707e7126e.pth 5.282 60.552 1366792 224 256 bilinear 1
shufflenet_v2_x1_0 2278604
  IMAGENET1K_V1* shufflenetv2_x1-5666bf0f80.pth 8.791 69.362 2278604 224 256 bilinear 1
shufflenet_v2_x1_5 3503624
  IMAGENET1K_V1* shufflenetv2_x1_5-3c479a10.pth 13.557 72.996 3503624 224 232 bilinear 1
shufflenet_v2_x2_0 7393996
  IMAGENET1K_V1* shufflenetv2_x2_0-8be3c8ee.pth 28.433 76.23 7393996 224 232 bilinear 1
= SqueezeNet
squeezenet1_1 1235496
  IMAGENET1K_V1* squeezenet1_1-b8a52dc0.pth 4.729 58.178 1235496 224 256 bilinear 17
squeezenet1_0 1248424
  IMAGENET1K_V1* squeezenet1_0-b66bff10.pth 4.778 58.092 1248424 224 256 bilinear 21
= Inception
googlenet 13004888
  IMAGENET1K_V1* googlenet-1378be20.pth 49.731 69.778 6624904 224 256 bilinear 15
inception_v3 27161264
  IMAGENET1K_V1* inception_v3_google-0cc3c7bd.pth 103.903 77.294 27161264 299 342 bilinear 75
= VGG
vgg11 132863336
  IMAGENET1K_V1* vgg11-8a719046.pth 506.84 69.02 132863336 224 256 bilinear 32
vgg11_bn 132868840
  IMAGENET1K_V1* vgg11_bn-6002323d.pth 506.881 70.37 132868840 224 256 bilinear 32
vgg13 133047848
  IMAGENET1K_V1* vgg13-19584684.pth 507.545 69.928 133047848 224 256 bilinear 32
vgg13_bn 133053736
  IMAGENET1K_V1* vgg13_bn-abd245e5.pth 507.59 71.586 133053736 224 256 bilinear 32
vgg16 138357544
  IMAGENET1K_V1* vgg16-397923af.pth 527.796 71.592 138357544 224 256 bilinear 32
  IMAGENET1K_FEATURES vgg16_features-amdegroot-88682ab5.pth 527.802 nan 138357544 224 256 bilinear 32
vgg16_bn 138365992
  IMAGENET1K_V1* vgg16_bn-6c64b313.pth 527.866 73.36 138365992 224 256 bilinear 32
vgg19 143667240
  IMAGENET1K_V1* vgg19-dcbb9e9d.pth 548.051 72.376 143667240 224 256 bilinear 32
vgg19_bn 143678248
  IMAGENET1K_V1* vgg19_bn-c79401a0.pth 548.143 74.218 143678248 224 256 bilinear 32
= AlexNet
alexnet 61100840
  IMAGENET1K_V1* alexnet-owt-7be5be79.pth 233.087 56.522 61100840 224 256 bilinear 63
= Vision Transformer
vit_b_16 86567656
  IMAGENET1K_V1* vit_b_16-c867db91.pth 330.285 81.072 86567656 224 256 bilinear 224
  IMAGENET1K_SWAG_E2E_V1 vit_b_16_swag-9ac1b537.pth 331.398 85.304 86859496 384 384 bicubic 384
  IMAGENET1K_SWAG_LINEAR_V1 vit_b_16_lc_swag-4e70ced5.pth 330.285 81.886 86567656 224 224 bicubic 224
vit_b_32 88224232
  IMAGENET1K_V1* vit_b_32-d86f8d99.pth 336.604 75.912 88224232 224 256 bilinear 224
vit_l_16 304326632
  IMAGENET1K_V1* vit_l_16-852ce7e3.pth 1161.023 79.662 304326632 224 242 bilinear 224
  IMAGENET1K_SWAG_E2E_V1 vit_l_16_swag-4f3808c9.pth 1164.258 88.064 305174504 512 512 bicubic 512
  IMAGENET1K_SWAG_LINEAR_V1 vit_l_16_lc_swag-4d563306.pth 1161.023 85.146 304326632 224 224 bicubic 224
vit_l_32 306535400
  IMAGENET1K_V1* vit_l_32-c7638314.pth 1169.449 76.972 306535400 224 256 bilinear 224
vit_h_14 632045800
  IMAGENET1K_SWAG_E2E_V1* vit_h_14_swag-80465313.pth 2416.643 88.552 633470440 518 518 bicubic 518
  IMAGENET1K_SWAG_LINEAR_V1 vit_h_14_lc_swag-c1eb923e.pth 2411.209 85.708 632045800 224 224 bicubic 224
= Swin Transformer
swin_t 28288354
  IMAGENET1K_V1* swin_t-704ceda3.pth 108.19 81.474 28288354 224 232 bicubic 224
swin_s 49606258
  IMAGENET1K_V1* swin_s-5e29d889.pth 189.786 83.196 49606258 224 246 bicubic 224
swin_b 87768224
  IMAGENET1K_V1* swin_b-68c6b09e.pth 335.364 83.582 87768224 224 238 bicubic 224
swin_v2_t 28351570
  IMAGENET1K_V1* swin_v2_t-b137f0e2.pth 108.626 82.072 28351570 256 260 bicubic 256
swin_v2_s 49737442
  IMAGENET1K_V1* swin_v2_s-637d8ceb.pth 190.675 83.712 49737442 256 260 bicubic 256
swin_v2_b 87930848
  IMAGENET1K_V1* swin_v2_b-781e5279.pth 336.372 84.112 87930848 256 272 bicubic 256
= MaxViT
maxvit_t 30919624
  IMAGENET1K_V1* maxvit_t-bc5ab103.pth 118.769 83.7 30919624 224 224 bicubic 224
"""


def _weights(model: str, row: str) -> ZooWeights:
    name, file, megabytes, accuracy, parameters, crop, resize, interpolation, least = row.split()
    default, name = name.endswith("*"), name.rstrip("*")
    mean, std = _OTHER_NORMALISATION.get((model, name), _IMAGENET)
    return ZooWeights(
        model=model,
        name=name,
        url=_URL + file,
        megabytes=float(megabytes),
        accuracy=None if accuracy == "nan" else float(accuracy),
        parameters=int(parameters),
        crop_size=int(crop),
        resize_size=int(resize),
        interpolation=interpolation,
        min_size=int(least),
        mean=mean,
        std=std,
        num_classes=1000,
        note=_SWAG if "SWAG" in name else _FEATURES if name.endswith("FEATURES") else "",
        default=default,
    )


def _read_table() -> dict[str, ZooModel]:
    rows: dict[str, tuple[str, int, list[ZooWeights]]] = {}
    family = model = ""
    for line in _TABLE.strip().splitlines():
        if line.startswith("= "):
            family = line[2:]
        elif line.startswith("  "):
            rows[model][2].append(_weights(model, line))
        else:
            model, parameters = line.split()
            rows[model] = (family, int(parameters), [])
    return {name: ZooModel(name, kind, count, tuple(weights)) for name, (kind, count, weights) in rows.items()}


ZOO: dict[str, ZooModel] = _read_table()
"""Every classification model of torchvision by name, family after family."""

FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(entry.name for entry in ZOO.values() if entry.family == family)
    for family in dict.fromkeys(entry.family for entry in ZOO.values())
}
"""The names of the models of each family, smallest first."""
