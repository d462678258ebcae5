"""Algorithm 1, its gradient and the inference form, against torch, closed forms and float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import bn_core
from bn_core import (
    batch_norm,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    batch_statistics,
    normalize,
    normalize_rms,
    population_variance,
)

# torch 2.13 sets forward mode up with a function of its own that it has deprecated.
forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

SHAPES = [(2, 1), (60, 100), (7, 3, 5), (4, 3, 6, 5), (3, 2, 2, 3, 4)]


def draw(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    d = shape[1]
    x = torch.randn(shape, generator=generator, dtype=dtype) * 3 + 2
    gamma = torch.randn(d, generator=generator, dtype=dtype)
    beta = torch.randn(d, generator=generator, dtype=dtype)
    dy = torch.randn(shape, generator=generator, dtype=dtype)
    return x, gamma, beta, dy


def torch_gradients(x, gamma, beta, dy, eps):
    x, gamma, beta = (t.clone().requires_grad_() for t in (x, gamma, beta))
    y = F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
    return y.detach(), *torch.autograd.grad(y, (x, gamma, beta), dy)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_forward_and_six_gradients_agree_with_torch(shape, eps):
    x, gamma, beta, dy = draw(shape)
    y, cache = batch_norm_forward(x, gamma, beta, eps)
    ours = (y, *batch_norm_backward(dy, cache))
    for mine, theirs in zip(ours, torch_gradients(x, gamma, beta, dy, eps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_autograd_function_agrees_with_torch(shape, eps):
    x, gamma, beta, dy = draw(shape)
    leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
    y = batch_norm(*leaves, eps=eps)
    ours = (y.detach(), *torch.autograd.grad(y, leaves, dy))
    for mine, theirs in zip(ours, torch_gradients(x, gamma, beta, dy, eps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    m=st.integers(2, 9),
    d=st.integers(1, 5),
    positions=st.lists(st.integers(1, 4), max_size=3),
    eps=st.floats(1e-6, 1.0),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_eps_agrees_with_torch(m, d, positions, eps, seed):
    x, gamma, beta, dy = draw((m, d, *positions), seed)
    y, cache = batch_norm_forward(x, gamma, beta, eps)
    ours = (y, *batch_norm_backward(dy, cache))
    for mine, theirs in zip(ours, torch_gradients(x, gamma, beta, dy, eps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_float32_agrees_with_torch_in_float32():
    x, gamma, beta, dy = draw((60, 100), dtype=torch.float32)
    leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
    y = batch_norm(*leaves)
    ours = (y.detach(), *torch.autograd.grad(y, leaves, dy))
    for mine, theirs in zip(ours, torch_gradients(x, gamma, beta, dy, 1e-5), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_first_and_second_derivatives_agree_with_finite_differences():
    x, gamma, beta, _ = draw((4, 3, 2))
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    assert gradcheck(batch_norm, leaves)
    assert gradgradcheck(batch_norm, leaves)


def test_without_gamma_and_beta_they_are_one_and_zero():
    x, _, _, dy = draw((6, 4))
    x.requires_grad_()
    bare = batch_norm(x)
    full = batch_norm(x, torch.ones(4).double(), torch.zeros(4).double())
    torch.testing.assert_close(bare, full)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, dy)[0] for y in (bare, full)))


def test_only_the_gradients_that_are_asked_for_are_computed():
    x, gamma, beta, dy = draw((6, 4))
    y = batch_norm(x, gamma.requires_grad_(), beta)
    y.backward(dy)
    assert gamma.grad is not None
    assert x.grad is None
    assert beta.grad is None


def test_mean_of_x_hat_is_zero_and_its_mean_square_is_var_over_var_plus_eps():
    x, gamma, beta, _ = draw((50, 3))
    eps = 0.7
    _, cache = batch_norm_forward(x, gamma, beta, eps)
    var = x.var(0, correction=0)
    torch.testing.assert_close(cache.x_hat.mean(0), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(cache.x_hat.square().mean(0), var / (var + eps))


def test_no_x_hat_exceeds_the_root_of_m_minus_one():
    m = 10
    outlier = torch.zeros(m, 1).double()
    outlier[0] = 1e6
    x_hat = batch_norm(outlier, eps=1e-12)
    assert x_hat.max().item() == pytest.approx((m - 1) ** 0.5, rel=1e-9)


def test_a_batch_of_two_keeps_only_signs():
    x = torch.tensor([[3.0, -1.0], [8.0, -1.5]]).double()
    expected = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).double()
    torch.testing.assert_close(batch_norm(x, eps=1e-14), expected)


def test_gradient_has_no_part_along_a_shift_of_the_batch():
    x, gamma, beta, dy = draw((20, 3))
    _, cache = batch_norm_forward(x, gamma, beta)
    dx, _, _ = batch_norm_backward(dy, cache)
    torch.testing.assert_close(dx.sum(0), torch.zeros(3).double(), atol=1e-12, rtol=0)


def test_mean_far_from_zero_does_not_cancel():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 2, generator=generator) + 1e4  # float32: mean(x^2) - mean^2 has no digits
    _, var = batch_statistics(x)
    torch.testing.assert_close(
        var.double(), x.double().var(0, correction=0), rtol=1e-4, atol=0, check_dtype=True
    )


@pytest.mark.parametrize("shape", [(1, 3), (5, 3), (2, 3, 4, 4)])
def test_inference_agrees_with_torch(shape):
    x, gamma, beta, _ = draw(shape)
    mean, var = torch.randn(3).double(), torch.rand(3).double()
    theirs = F.batch_norm(x, mean, var, gamma, beta, training=False, eps=1e-3)
    torch.testing.assert_close(batch_norm_inference(x, mean, var, gamma, beta, 1e-3), theirs)


def test_inference_with_the_batchs_own_statistics_is_the_forward_pass():
    x, gamma, beta, _ = draw((9, 3, 4))
    y, _ = batch_norm_forward(x, gamma, beta)
    torch.testing.assert_close(batch_norm_inference(x, *batch_statistics(x), gamma, beta), y)


def test_gamma_and_beta_of_section_3_restore_the_identity():
    x, _, _, _ = draw((30, 4))
    mu, var = batch_statistics(x)
    torch.testing.assert_close(batch_norm(x, torch.sqrt(var + 1e-5), mu), x)


def test_population_variance_is_the_unbiased_variance():
    x, _, _, _ = draw((13, 4))
    _, var = batch_statistics(x)
    torch.testing.assert_close(population_variance(var, 13), x.var(0, correction=1))


def test_population_variance_averages_to_the_population_over_every_batch():
    """Brute force: all 25 ordered batches of two, with replacement, from five values."""
    population = torch.tensor([0.0, 1.0, 4.0, 9.0, -3.0]).double()
    batches = torch.cartesian_prod(population, population).T  # (2, 25): one batch a channel
    _, var = batch_statistics(batches)
    assert population_variance(var, 2).mean().item() == pytest.approx(
        population.var(correction=0).item()
    )


def gradients_in(x, gamma, beta, dy, function=batch_norm):
    leaves = [t.detach().clone().requires_grad_() for t in (x, gamma, beta)]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, dy)


def test_gradient_is_the_same_whether_or_not_it_will_be_differentiated_again():
    x, gamma, beta, dy = draw((6, 4, 5))
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    plain = torch.autograd.grad(batch_norm(*leaves), leaves, dy)
    with_graph = torch.autograd.grad(batch_norm(*leaves), leaves, dy, create_graph=True)
    torch.testing.assert_close(plain, with_graph, rtol=1e-12, atol=1e-12)


def test_inputs_are_left_as_they_were():
    given = draw((6, 4, 5))
    copies = [t.clone() for t in given]
    gradients_in(*given)
    assert all(torch.equal(t, copy) for t, copy in zip(given, copies, strict=True))


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6, -1e6])
@pytest.mark.parametrize("shape", [(4096, 3), (16, 3, 20, 20)])
def test_float32_is_as_good_far_from_zero_as_at_zero(mean, shape):
    """Against float64 on the same numbers, which float32 has rounded already at 1e6."""
    x, gamma, beta, dy = (t.float() for t in draw(shape))
    x = (x - x.mean()) / x.std() + mean
    exact = gradients_in(*(t.double() for t in (x, gamma, beta, dy)))
    for ours, reference in zip(gradients_in(x, gamma, beta, dy), exact, strict=True):
        error = (ours.double() - reference).abs().max() / reference.abs().max()
        assert error < 3e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parameters", ["half", "float32"])
def test_half_precision_is_wrong_by_no_more_than_its_own_rounding(dtype, parameters):
    x, gamma, beta, dy = (t.to(dtype) for t in draw((512, 3, 4)))
    exact = gradients_in(*(t.double() for t in (x, gamma, beta, dy)))
    if parameters == "float32":
        gamma, beta = gamma.float(), beta.float()
    ours = gradients_in(x, gamma, beta, dy)
    assert [t.dtype for t in ours] == [dtype, dtype, gamma.dtype, beta.dtype]
    for mine, reference in zip(ours, exact, strict=True):
        rounding = torch.finfo(mine.dtype).eps * reference.abs().max()
        assert (mine.double() - reference).abs().max() <= max(
            rounding, 1e-5 * reference.abs().max()
        )


def test_half_precision_sums_do_not_overflow():
    x = torch.full((4096, 1), 60000.0).half()  # float16 ends at 65504
    x[::2] = -60000.0
    assert batch_norm(x).float().abs().max() == 1


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(memory_format):
    x, gamma, beta, dy = draw((4, 3, 6, 5))
    x = x.to(memory_format=memory_format).requires_grad_()
    y = batch_norm(x, gamma, beta)
    y.backward(dy.to(memory_format=memory_format))
    for t in (y, x.grad):
        assert t.is_contiguous(memory_format=memory_format)


def test_vmap_is_a_loop():
    draws = [draw((7, 3, 2), k)[:3] for k in range(4)]
    xs, gammas, betas = (torch.stack(t) for t in zip(*draws, strict=True))
    for in_dims in [(0, 0, 0), (0, None, None), (None, 0, 0), (0, 0, None)]:
        arguments = [
            stack if axis == 0 else stack[0]
            for stack, axis in zip((xs, gammas, betas), in_dims, strict=True)
        ]
        both = list(zip(arguments, in_dims, strict=True))
        loop = torch.stack(
            [batch_norm(*(a if axis is None else a[k] for a, axis in both)) for k in range(4)]
        )
        torch.testing.assert_close(torch.vmap(batch_norm, in_dims)(*arguments), loop)


def test_vmap_over_an_inner_axis_and_within_vmap():
    x, gamma, beta, _ = draw((7, 3, 2, 5))
    inner = torch.vmap(lambda t: batch_norm(t, gamma, beta), in_dims=3, out_dims=3)
    torch.testing.assert_close(
        inner(x), torch.stack([batch_norm(x[..., k], gamma, beta) for k in range(5)], -1)
    )
    twice = torch.vmap(torch.vmap(batch_norm, in_dims=2, out_dims=2), in_dims=3, out_dims=3)
    loop = torch.stack(
        [torch.stack([batch_norm(x[:, :, a, b]) for a in range(2)], 2) for b in range(5)], 3
    )
    torch.testing.assert_close(twice(x), loop)


def test_gradients_per_slice_through_vmap_are_those_of_a_loop():
    draws = [draw((7, 3, 2), k) for k in range(4)]
    xs, gammas, betas, dys = (torch.stack(t) for t in zip(*draws, strict=True))
    leaves = [t.requires_grad_() for t in (xs, gammas, betas)]
    stacked = torch.autograd.grad(torch.vmap(batch_norm)(*leaves), leaves, dys)
    loop = [gradients_in(*one)[1:] for one in draws]
    for got, expected in zip(stacked, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected))


def test_functional_gradients_and_hessian_are_autograds():
    x, gamma, beta, dy = draw((4, 2))

    def loss(x, gamma, beta):
        return (batch_norm(x, gamma, beta) * dy).sum()

    functional = torch.func.grad(loss, argnums=(0, 1, 2))(x, gamma, beta)
    torch.testing.assert_close(functional, gradients_in(x, gamma, beta, dy)[1:])
    per_slice = torch.vmap(torch.func.grad(loss), in_dims=(0, None, None))(
        torch.stack([x, 2 * x + dy]), gamma, beta
    )
    torch.testing.assert_close(per_slice[1], torch.func.grad(loss)(2 * x + dy, gamma, beta))
    torch.testing.assert_close(
        torch.func.jacrev(torch.func.jacrev(loss))(x, gamma, beta),
        torch.autograd.functional.hessian(lambda x: loss(x, gamma, beta), x),
    )


def composed(x, gamma, beta):
    """Batch normalization of (m, d) left to autograd, whose second derivatives are right.

    torch 2.13's own are not under torch.func: the derivative of F.batch_norm's dgamma with respect
    to x, as `jacrev(jacrev(f, 1), 0)` of a function of x and gamma, is not what autograd gives.
    """
    x_hat = (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)
    return gamma * x_hat + beta


@forward_mode
@pytest.mark.parametrize("given", [(0, 1, 2), (0,), (1,), (2,)])
def test_forward_derivatives_are_torchs(given):
    inputs = draw((6, 3))[:3]
    tangents = draw((6, 3), seed=1)[:3]

    def partly(function):
        return lambda *some: function(*(
            some[given.index(i)] if i in given else inputs[i] for i in range(3)
        ))  # fmt: skip

    def theirs(x, gamma, beta):
        return F.batch_norm(x, None, None, gamma, beta, True)

    point, along = [inputs[i] for i in given], [tangents[i] for i in given]
    torch.testing.assert_close(
        *(torch.func.jvp(partly(f), tuple(point), tuple(along)) for f in (batch_norm, theirs))
    )


@forward_mode
@pytest.mark.parametrize("outer", [torch.func.jacfwd, torch.func.jacrev])
@pytest.mark.parametrize("inner", [torch.func.jacfwd, torch.func.jacrev])
@pytest.mark.parametrize("enabled", [True, False], ids=["grad", "no grad"])
def test_hessians_of_every_composition_are_that_of_composed_operations(outer, inner, enabled):
    x, gamma, beta, dy = draw((5, 2))
    found, expected = (
        outer(inner(lambda *inputs, f=f: (f(*inputs) * dy).pow(3).sum(), (0, 1, 2)), (0, 1, 2))
        for f in (batch_norm, composed)
    )
    with torch.set_grad_enabled(enabled or outer is torch.func.jacrev):
        torch.testing.assert_close(found(x, gamma, beta), expected(x, gamma, beta))


@forward_mode
def test_hessians_per_slice_are_those_of_a_loop():
    x, gamma, beta, dy = draw((4, 2))
    hessian = torch.func.hessian(lambda x: (batch_norm(x, gamma, beta) * dy).pow(3).sum())
    xs = torch.stack([x, 2 * x + dy])
    torch.testing.assert_close(torch.vmap(hessian)(xs), torch.stack([hessian(x) for x in xs]))


@forward_mode
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward_derivatives_of_half_precision_have_its_type(dtype):
    x, gamma, beta, dx = (t.float() for t in draw((64, 3)))
    exact = torch.func.jvp(lambda x: batch_norm(x, gamma, beta), (x.to(dtype).float(),), (dx,))
    half = torch.func.jvp(lambda x: batch_norm(x, gamma, beta), (x.to(dtype),), (dx.to(dtype),))
    assert half[0].dtype == half[1].dtype == dtype
    torch.testing.assert_close(half, tuple(t.to(dtype) for t in exact), rtol=0.02, atol=0.02)


def test_under_autocast_the_result_has_the_inputs_dtype():
    x, gamma, beta, dy = (t.float() for t in draw((32, 8)))
    weight = torch.eye(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = x @ weight  # bfloat16, as a Linear gives it
        y = batch_norm(hidden, gamma, beta)
    assert y.dtype == hidden.dtype == torch.bfloat16
    torch.testing.assert_close(y, batch_norm(hidden, gamma, beta))
    torch.testing.assert_close(
        gradients_in(hidden, gamma, beta, dy.bfloat16())[1].float(),
        gradients_in(hidden.float(), gamma, beta, dy.bfloat16().float())[1],
        rtol=1e-2, atol=1e-2,
    )  # fmt: skip


@pytest.mark.filterwarnings("default")  # what the compiler warns of is not ours
def test_it_compiles_without_a_graph_break():
    compiled = torch.compile(batch_norm, fullgraph=True)
    for shape in [(60, 10), (4, 3, 6, 5)]:
        given = draw(shape)
        torch.testing.assert_close(gradients_in(*given, compiled), gradients_in(*given))


def test_an_empty_batch_gives_an_empty_result():
    x, gamma, beta, dy = draw((0, 4))
    y, dx, dgamma, dbeta = gradients_in(x, gamma, beta, dy)
    assert y.shape == dx.shape == (0, 4)
    assert not dgamma.any()
    assert not dbeta.any()


def test_over_other_axes_it_is_layer_instance_and_group_normalization():
    x, _, _, _ = draw((5, 6, 3, 4))
    torch.testing.assert_close(normalize(x, [1, 2, 3]), F.layer_norm(x, (6, 3, 4)))
    torch.testing.assert_close(normalize(x, [-2, -1]), F.instance_norm(x))
    grouped = normalize(x.view(5, 2, 3, 3, 4), [2, 3, 4]).view(x.shape)
    torch.testing.assert_close(grouped, F.group_norm(x, 2))
    torch.testing.assert_close(normalize(x, [0, 2, 3]), batch_norm(x))
    torch.testing.assert_close(normalize_rms(x, [3], 1e-6), F.rms_norm(x, (4,), eps=1e-6))


@pytest.mark.parametrize("function", [normalize, normalize_rms])
def test_derivatives_over_other_axes_agree_with_finite_differences(function):
    x = draw((3, 4, 2))[0].requires_grad_()
    assert gradcheck(function, (x, [1, 2]))
    assert gradgradcheck(function, (x, [1, 2]))


x24 = torch.zeros(2, 4)
v4, v3 = torch.ones(4), torch.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: batch_norm(torch.zeros(1, 4)), ValueError, r"\(1, 4\).*at least 2 values"),
        (lambda: batch_norm(torch.zeros(4)), ValueError, r"x has shape \(4,\).*axis 1"),
        (lambda: batch_norm(x24.long()), TypeError, r"torch.int64.*x.float"),
        (lambda: batch_norm(x24, eps=0.0), ValueError, "eps is 0.0.*positive"),
        (lambda: batch_norm(x24, eps=float("nan")), ValueError, "eps is nan.*positive"),
        (lambda: batch_norm(x24, v3, v4), ValueError, r"gamma has shape \(3,\).*4 channels"),
        (lambda: batch_norm(x24, v4, v3), ValueError, r"beta has shape \(3,\).*4 channels"),
        (lambda: batch_norm_forward(x24, v3, v4), ValueError, "batch_norm_forward: gamma"),
        (lambda: batch_norm_inference(x24, v3, v4, v4, v4), ValueError, "mean has shape"),
        (lambda: batch_norm_inference(x24, v4, v3, v4, v4), ValueError, "var has shape"),
        (lambda: batch_statistics(torch.zeros(4)), ValueError, "batch_statistics: x has shape"),
        (lambda: population_variance(v4, 1), ValueError, "m is 1.*at least 2"),
        (lambda: batch_norm(x24, eps=float("inf")), ValueError, "eps is inf.*finite"),
        (lambda: batch_norm(x24, eps=1e-46), ValueError, "eps is 1e-46.*positive in torch.float32"),
        (lambda: normalize(x24, 0), TypeError, r"axes is 0; it must be a sequence.*\[0\]"),
        (lambda: normalize(x24, [0.0]), TypeError, r"normalize: axes is \[0.0\].*whole numbers"),
        (lambda: normalize_rms(x24, [True]), TypeError, r"axes is \[True\].*whole numbers"),
        (lambda: normalize(torch.tensor(1.0), [0]), ValueError, r"shape \(\), no axis.*unsqueeze"),
        (lambda: batch_norm([[1.0], [2.0]]), TypeError, "x is of type list.*torch.as_tensor"),
        (lambda: normalize(2.0, [0]), TypeError, "normalize: x is of type float"),
        (lambda: batch_norm(x24.numpy()), TypeError, "x is of type ndarray"),
        (lambda: batch_norm(x24, [1.0] * 4), TypeError, r"gamma is of type list.*\(4,\)"),
        (lambda: batch_norm_inference(x24, v4, 1.0), TypeError, "var is of type float"),
    ],
)
def test_bad_input_is_named_with_what_would_do(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_backward_refuses_a_gradient_of_another_shape():
    _, cache = batch_norm_forward(torch.randn(3, 4), v4, v4)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4\).*\(3, 4\)"):
        batch_norm_backward(x24, cache)


def test_every_public_name_is_documented():
    assert all(getattr(bn_core, name).__doc__ for name in bn_core.__all__)
