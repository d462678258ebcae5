"""Whitening and detached statistics, against closed forms, finite differences and torch's eigh."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from bn_core.algorithms import batch_norm
from bn_core.whitening import (
    batch_covariance,
    center,
    center_with_detached_mean,
    covariance_rank,
    normalize_with_detached_statistics,
    whiten_cholesky,
    whiten_cholesky_with_detached_statistics,
    whiten_zca,
    whiten_zca_with_detached_statistics,
)

WHITENINGS = [whiten_zca, whiten_cholesky]
PAIRS = [
    (center, center_with_detached_mean),
    (batch_norm, normalize_with_detached_statistics),
    (whiten_zca, whiten_zca_with_detached_statistics),
    (whiten_cholesky, whiten_cholesky_with_detached_statistics),
]
SHAPES = [(2, 1), (60, 10), (7, 3, 5), (4, 3, 6, 5), (3, 2, 2, 3, 4)]


def draw(shape, seed=0, dtype=torch.float64):
    """Samples of correlated features of different scales, and a gradient of the same shape."""
    generator = torch.Generator().manual_seed(seed)
    d = shape[1]
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64) + 2 * torch.eye(d)
    x = torch.einsum("ij,mj...->mi...", mix.double(), x) + 2
    dy = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype), dy.to(dtype)


def rotation(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    return q


def cross(d=3):
    """2d samples, plus and minus each unit vector: the covariance is I / d, all eigenvalues one."""
    return torch.cat([torch.eye(d), -torch.eye(d)]).double()


def gradient(f, x, dy):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x, dy)[0]


def brute_force_covariance(x):
    """The mean of outer products, sample by sample and position by position."""
    samples = [x[i, :, k] for i in range(len(x)) for k in range(x.flatten(2).shape[2])]
    mu = sum(samples) / len(samples)
    return mu, sum(torch.outer(s - mu, s - mu) for s in samples) / len(samples)


def eigh_of(x, eps):
    """Deviations, eigenvalues of Sigma + eps I, eigenvectors: differentiable, by torch's eigh."""
    deviations = x - x.mean(0)
    eigenvalues, q = torch.linalg.eigh(deviations.T @ deviations / len(x))
    return deviations, eigenvalues + eps, q


def zca_by_eigh(x, eps):
    deviations, eigenvalues, q = eigh_of(x, eps)
    return deviations @ q @ torch.diag(eigenvalues**-0.5) @ q.T


# What whitening gives


def test_covariance_is_the_mean_outer_product_of_the_deviations():
    x, _ = draw((4, 3, 5))
    for mine, theirs in zip(batch_covariance(x), brute_force_covariance(x), strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(
        batch_covariance(x)[1], torch.cov(x.movedim(1, 0).flatten(1), correction=0)
    )


def test_covariance_of_one_sample_is_zero():
    _, sigma = batch_covariance(torch.randn(1, 4))
    assert sigma.count_nonzero() == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.7])
def test_covariance_of_zca_output_is_sigma_times_the_inverse_of_sigma_plus_eps(shape, eps):
    x, _ = draw(shape)
    _, sigma = batch_covariance(x)
    mu_hat, sigma_hat = batch_covariance(whiten_zca(x, eps))
    identity = torch.eye(len(sigma)).double()
    torch.testing.assert_close(sigma_hat, sigma @ torch.linalg.inv(sigma + eps * identity))
    torch.testing.assert_close(mu_hat, torch.zeros_like(mu_hat), atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.7])
def test_covariance_of_cholesky_output_has_eigenvalues_l_over_l_plus_eps(shape, eps):
    x, _ = draw(shape)
    eigenvalues = torch.linalg.eigvalsh(batch_covariance(x)[1])
    _, sigma_hat = batch_covariance(whiten_cholesky(x, eps))
    torch.testing.assert_close(
        torch.linalg.eigvalsh(sigma_hat), eigenvalues / (eigenvalues + eps), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_without_eps_the_covariance_of_the_output_is_the_identity(whiten):
    x, _ = draw((20, 5))
    _, sigma_hat = batch_covariance(whiten(x, eps=0.0))
    torch.testing.assert_close(sigma_hat, torch.eye(5).double())


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_one_feature_is_batch_norm_in_value_and_gradient(whiten):
    x, dy = draw((9, 1, 4))
    torch.testing.assert_close(whiten(x, 0.2), batch_norm(x, eps=0.2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient(lambda x: whiten(x, 0.2), x, dy),
        gradient(lambda x: batch_norm(x, eps=0.2), x, dy),
        rtol=1e-12,
        atol=1e-12,
    )


def test_zca_of_uncorrelated_features_is_batch_norm():
    x = cross() * torch.tensor([1.0, 3.0, 0.2]).double() + 4
    torch.testing.assert_close(whiten_zca(x, 0.1), batch_norm(x, eps=0.1))


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_positions_of_a_feature_map_are_further_samples(whiten):
    x, dy = draw((4, 3, 6, 5))

    def as_rows(t):
        return t.movedim(1, -1).reshape(-1, 3)

    torch.testing.assert_close(as_rows(whiten(x)), whiten(as_rows(x)))
    torch.testing.assert_close(
        as_rows(gradient(whiten, x, dy)), gradient(whiten, as_rows(x), as_rows(dy))
    )


@settings(max_examples=50, deadline=None)
@given(
    m=st.integers(2, 9), d=st.integers(1, 5), eps=st.floats(1e-4, 1.0), seed=st.integers(0, 10**6)
)
def test_no_rotation_of_zca_is_closer_to_the_centered_samples(m, d, eps, seed):
    x, _ = draw((m, d), seed)
    x_hat = whiten_zca(x, eps)
    moved = (x_hat - center(x)).square().sum()
    rotated = (x_hat @ rotation(d, seed) - center(x)).square().sum()
    assert moved <= rotated * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_cholesky_is_a_rotation_of_zca(eps):
    x, _ = draw((20, 4))
    zca, cholesky = whiten_zca(x, eps), whiten_cholesky(x, eps)
    turn = torch.linalg.lstsq(zca, cholesky).solution
    torch.testing.assert_close(turn.T @ turn, torch.eye(4).double())
    torch.testing.assert_close(torch.linalg.det(turn).item(), 1.0)
    torch.testing.assert_close(zca @ turn, cholesky)


def test_rotating_the_samples_rotates_zca_the_same_way():
    x, _ = draw((12, 5))
    q = rotation(5)
    torch.testing.assert_close(whiten_zca(x @ q), whiten_zca(x) @ q)


def test_permuting_features_permutes_zca_but_not_cholesky():
    x, _ = draw((12, 5))
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(whiten_zca(x[:, order]), whiten_zca(x)[:, order])
    assert not torch.allclose(whiten_cholesky(x[:, order]), whiten_cholesky(x)[:, order], atol=0.1)


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_permuting_samples_permutes_the_output(whiten):
    x, _ = draw((12, 5))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whiten(x[order]), whiten(x)[order])


def test_feature_k_of_cholesky_uses_no_later_feature():
    x, _ = draw((12, 5))
    x_hat = whiten_cholesky(x)
    for k in range(1, 5):
        torch.testing.assert_close(whiten_cholesky(x[:, :k]), x_hat[:, :k])
    torch.testing.assert_close(x_hat[:, :1], batch_norm(x[:, :1]))


def test_feature_k_of_cholesky_is_what_earlier_features_do_not_predict():
    x, _ = draw((12, 3))
    deviations = center(x)
    fit = torch.linalg.lstsq(deviations[:, :2], deviations[:, 2:]).solution
    residual = deviations[:, 2:] - deviations[:, :2] @ fit
    unit = residual / residual.square().mean().sqrt()
    torch.testing.assert_close(whiten_cholesky(x, eps=0.0)[:, 2:], unit)


def test_cholesky_does_not_see_a_lower_triangular_map_of_the_features():
    x, _ = draw((12, 4))
    a = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double().tril(-1)
    a += torch.diag(torch.tensor([0.5, 2.0, 1.0, 3.0]))
    torch.testing.assert_close(whiten_cholesky(x @ a.T, eps=0.0), whiten_cholesky(x, eps=0.0))


# Rank


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 12),
    d=st.integers(1, 8),
    positions=st.integers(1, 3),
    offset=st.sampled_from([0.0, 1.0, -1e4, 1e6]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_rank_is_at_most_the_number_of_samples_less_one(
    m, d, positions, offset, scale, dtype, seed
):
    x, _ = draw((m, d, positions), seed, dtype)
    assert covariance_rank(scale * (x + offset)) <= min(m * positions - 1, d)


@settings(max_examples=100, deadline=None)
@given(m=st.integers(1, 12), d=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_rank_of_gaussian_samples_is_as_high_as_it_can_be(m, d, seed):
    x = torch.randn(m, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert covariance_rank(x) == min(m - 1, d)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_rank_of_a_constant_batch_is_zero(value):
    assert covariance_rank(torch.full((7, 3), value)) == 0


def test_a_feature_that_is_the_sum_of_two_others_adds_no_rank():
    x, _ = draw((50, 3))
    x = torch.cat([x, x[:, :1] + x[:, 1:2]], 1)
    assert covariance_rank(x) == 3


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_a_batch_of_at_most_d_samples_is_whitened_only_with_eps(whiten):
    x, dy = draw((4, 6))
    with pytest.raises(ValueError, match=r"m = 4 samples of d = 6 features has rank 3"):
        whiten(x, eps=0.0)
    assert whiten(x, eps=1e-3).isfinite().all()
    assert gradient(lambda x: whiten(x, 1e-3), x, dy).isfinite().all()


def test_a_small_batch_whitened_with_little_eps_has_one_square_per_rank():
    """The trace of the output's covariance is the number of directions that the batch spans."""
    x, _ = draw((4, 6))
    _, sigma_hat = batch_covariance(whiten_zca(x, eps=1e-9))
    assert sigma_hat.trace().item() == pytest.approx(3, rel=1e-6)


# Gradients


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.3])
def test_gradient_is_that_through_eigh_where_eigenvalues_are_distinct(eps):
    x, dy = draw((9, 4))
    torch.testing.assert_close(whiten_zca(x, eps), zca_by_eigh(x, eps))
    torch.testing.assert_close(
        gradient(lambda x: whiten_zca(x, eps), x, dy),
        gradient(lambda x: zca_by_eigh(x, eps), x, dy),
        rtol=1e-8,
        atol=1e-8,
    )


def test_second_derivative_is_that_through_eigh_where_eigenvalues_are_distinct():
    x, dy = draw((9, 4))

    def hessian_times_dy(whiten):
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad((whiten(leaf, 0.3) ** 3).sum(), leaf, create_graph=True)
        return torch.autograd.grad(first, leaf, dy)[0]

    torch.testing.assert_close(
        hessian_times_dy(whiten_zca), hessian_times_dy(zca_by_eigh), rtol=1e-8, atol=1e-8
    )


BATCHES = {
    "distinct eigenvalues": draw((7, 3))[0],
    "all eigenvalues equal": cross(),
    "two eigenvalues equal": cross() * torch.tensor([1.0, 2.0, 2.0]).double(),
    "rank below d": draw((3, 5))[0],
    "constant": torch.ones(3, 2).double(),
    "feature maps": draw((2, 2, 3))[0],
}


@pytest.mark.parametrize("whiten", WHITENINGS)
@pytest.mark.parametrize("x", BATCHES.values(), ids=BATCHES.keys())
def test_first_and_second_derivatives_agree_with_finite_differences(whiten, x):
    x = x.clone().requires_grad_()
    assert gradcheck(lambda x: whiten(x, 0.1), x)
    assert gradgradcheck(lambda x: whiten(x, 0.1), x)


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_third_derivative_agrees_with_finite_differences_where_eigenvalues_coincide(whiten):
    x = cross(2).requires_grad_()

    def first(x):
        loss = (whiten(x, 0.1) ** 3).sum()
        return torch.autograd.grad(loss, x, create_graph=True)[0]

    assert gradgradcheck(first, x)


def test_gradient_without_eps_is_finite_and_right_where_eigenvalues_coincide():
    x = cross().requires_grad_()
    _, eigenvalues, _ = eigh_of(cross(), 0.0)
    assert (eigenvalues == eigenvalues[0]).all()  # torch's gradient of eigh divides by zero here
    assert gradcheck(lambda x: whiten_zca(x, 0.0), x)


@pytest.mark.parametrize("whiten", WHITENINGS)
@pytest.mark.parametrize("x", BATCHES.values(), ids=BATCHES.keys())
def test_a_loss_of_lengths_has_the_gradient_of_mahalanobis_lengths(whiten, x):
    """No root is in the reference: the squared length of x_hat is a solve with Sigma + eps I."""

    def lengths(x):
        return whiten(x, 0.1).square().sum(1)

    def mahalanobis(x):
        rows = x.movedim(1, -1).reshape(-1, x.shape[1])
        deviations = rows - rows.mean(0)
        a = deviations.T @ deviations / len(rows) + 0.1 * torch.eye(x.shape[1]).double()
        squares = (deviations * torch.linalg.solve(a, deviations.T).T).sum(1)
        return squares.reshape(lengths(x).shape)

    dy = torch.linspace(-1, 2, lengths(x).numel()).double().view(lengths(x).shape)
    torch.testing.assert_close(gradient(lengths, x, dy), gradient(mahalanobis, x, dy))


def test_gradient_of_lengths_has_no_part_along_an_affine_map_of_the_batch():
    x, _ = draw((9, 3))
    dy = torch.linspace(-1, 2, 9).double()
    for whiten in WHITENINGS:
        dx = gradient(lambda x, whiten=whiten: whiten(x, 0.0).square().sum(1), x, dy)
        for direction in (torch.ones(9, 1).double(), x):
            along = direction.T @ dx
            torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-10, rtol=0)


def test_gradients_of_the_covariance_agree_with_finite_differences():
    x, _ = draw((4, 3, 2))
    assert gradcheck(batch_covariance, x.requires_grad_())


def test_jacobian_by_torch_func_is_that_of_autograd():
    x = cross()
    ours = torch.func.jacrev(lambda x: whiten_zca(x, 0.1))(x)
    theirs = torch.autograd.functional.jacobian(lambda x: whiten_zca(x, 0.1), x)
    torch.testing.assert_close(ours, theirs)


# The normalization that gradient descent does not see


@pytest.mark.parametrize(("honest", "detached"), PAIRS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_detached_statistics_change_no_bit_of_the_value(honest, detached, shape, dtype):
    x, _ = draw(shape, dtype=dtype)
    assert honest(x).equal(detached(x))


def one(x):
    return torch.eye(x.shape[1]).double()


def one_over_s(x, eps):
    return torch.diag((x.var(0, correction=0) + eps) ** -0.5)


def inverse_root(x, eps):
    _, eigenvalues, q = eigh_of(x, eps)
    return q @ torch.diag(eigenvalues**-0.5) @ q.T


def inverse_factor(x, eps):
    covariance = torch.cov(x.T, correction=0) + eps * one(x)
    return torch.linalg.inv(torch.linalg.cholesky(covariance))


MAPS = [
    (center_with_detached_mean, lambda x: one(x)),
    (normalize_with_detached_statistics, lambda x: one_over_s(x, 1e-5)),
    (whiten_zca_with_detached_statistics, lambda x: inverse_root(x, 1e-5)),
    (whiten_cholesky_with_detached_statistics, lambda x: inverse_factor(x, 1e-5)),
]


@pytest.mark.parametrize(("detached", "matrix"), MAPS, ids=lambda f: f.__name__)
def test_with_detached_statistics_the_gradient_is_that_of_a_fixed_linear_map(detached, matrix):
    x, dy = draw((9, 4))
    torch.testing.assert_close(gradient(detached, x, dy), dy @ matrix(x))


@pytest.mark.parametrize(("honest", "detached"), PAIRS, ids=lambda f: f.__name__)
def test_only_the_honest_gradient_sums_to_zero_over_the_batch(honest, detached):
    x, dy = draw((9, 4))
    zero = torch.zeros(4).double()
    torch.testing.assert_close(gradient(honest, x, dy).sum(0), zero, atol=1e-12, rtol=0)
    assert gradient(detached, x, dy).sum(0).abs().min() > 0.1


def test_gradient_of_center_is_dy_less_its_mean():
    x, dy = draw((4, 3, 5))
    torch.testing.assert_close(gradient(center, x, dy), dy - dy.mean((0, 2), keepdim=True))


def descend(normalize, alpha, steps, d=1):
    """Gradient descent on the bias b of x = u + b; returns its start, its path and the losses."""
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(32, d, generator=generator, dtype=torch.float64) * 2
    t = torch.randn(32, d, generator=generator, dtype=torch.float64) + 0.7
    b = torch.full((d,), 0.3, dtype=torch.float64, requires_grad=True)
    path, losses = [b.detach().clone()], []
    for _ in range(steps):
        loss = (normalize(u + b) - t).square().mean()
        (db,) = torch.autograd.grad(loss, b)
        with torch.no_grad():
            b -= alpha * db
        path.append(b.detach().clone())
        losses.append(loss.item())
    return u, t, torch.stack(path), losses


def test_with_a_detached_mean_the_bias_grows_by_2_alpha_mean_t_a_step_and_the_loss_stays():
    alpha, steps = 0.1, 200
    _, t, path, losses = descend(center_with_detached_mean, alpha, steps)
    grown = 0.3 + 2 * alpha * steps * t.mean().item()
    assert path[-1].item() == pytest.approx(grown, rel=1e-12)
    assert losses == pytest.approx([losses[0]] * steps, rel=1e-12)


def test_with_several_features_in_the_mean_alpha_over_d_takes_alphas_place():
    alpha, steps, d = 0.1, 50, 4
    _, t, path, _ = descend(center_with_detached_mean, alpha, steps, d)
    torch.testing.assert_close(path[-1], 0.3 + 2 * alpha / d * steps * t.mean(0))


@pytest.mark.parametrize(("detached", "matrix"), MAPS, ids=lambda f: f.__name__)
def test_the_more_is_detached_the_bias_still_grows_linearly_and_the_loss_stays(detached, matrix):
    alpha, steps, d = 0.1, 50, 4
    u, t, path, losses = descend(detached, alpha, steps, d)
    grown = 0.3 + 2 * alpha / d * steps * t.mean(0) @ matrix(u)
    torch.testing.assert_close(path[-1], grown)
    assert losses == pytest.approx([losses[0]] * steps, rel=1e-9)


@pytest.mark.parametrize(("honest", "_detached"), PAIRS, ids=lambda f: f.__name__)
def test_with_the_honest_gradient_the_bias_stays(honest, _detached):
    _, _, path, _ = descend(honest, 0.1, 50, 4)
    torch.testing.assert_close(path, torch.full_like(path, 0.3), rtol=0, atol=1e-13)


def test_scaling_x_is_seen_by_the_detached_gradient_although_it_changes_nothing():
    x, _ = draw((9, 4))
    t = torch.linspace(-1, 2, 36).double().view(9, 4)

    def slope(normalize):
        w = torch.ones((), dtype=torch.float64, requires_grad=True)
        loss = (normalize(w * x) - t).square().mean()
        return torch.autograd.grad(loss, w)[0].item()

    assert abs(slope(lambda x: batch_norm(x, eps=1e-14))) < 1e-12
    assert abs(slope(lambda x: normalize_with_detached_statistics(x, 1e-14))) > 0.1


# Precision


@pytest.mark.parametrize("whiten", [f for pair in (PAIRS[0], *PAIRS[2:]) for f in pair])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_cast_back(whiten, dtype):
    x, dy = draw((20, 4), dtype=dtype)
    assert whiten(x).equal(whiten(x.float()).to(dtype))
    dx = gradient(whiten, x, dy)
    assert dx.dtype == dtype
    torch.testing.assert_close(
        dx.float(), gradient(whiten, x.float(), dy.float()).to(dtype).float()
    )


@pytest.mark.parametrize("centre", PAIRS[0], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("dtype", "mean", "scale"), [(torch.bfloat16, 100.0, 0.5), (torch.float16, 3e4, 20.0)]
)
def test_a_mean_far_from_zero_is_taken_off_in_half_precision_too(centre, dtype, mean, scale):
    x = (draw((256, 3))[0] * scale + mean).to(dtype)
    exact = x.double() - x.double().mean(0)
    torch.testing.assert_close(centre(x).double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-2)
    assert centre(x).dtype == dtype


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_float32_agrees_with_float64(whiten):
    x, dy = draw((60, 10), dtype=torch.float32)
    torch.testing.assert_close(whiten(x), whiten(x.double()).float(), rtol=1e-3, atol=1e-4)
    theirs = gradient(whiten, x.double(), dy.double()).float()
    torch.testing.assert_close(gradient(whiten, x, dy), theirs, rtol=1e-3, atol=1e-3)


def test_an_eigenvalue_that_rounding_makes_negative_is_not_a_nan():
    """In float32 the zero eigenvalues of this covariance come out as low as -6, beside eps 1e-5."""
    x, dy = draw((4, 6), dtype=torch.float32)
    x = 1e4 * x
    assert torch.linalg.eigvalsh(batch_covariance(x)[1]).min() < -1e-5
    assert whiten_zca(x).isfinite().all()
    assert gradient(whiten_zca, x, dy).isfinite().all()


@pytest.mark.parametrize("whiten", WHITENINGS)
def test_mean_far_from_zero_costs_no_precision(whiten):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-40, 40, (50, 4), generator=generator) / 8  # exact beside 1e6 in float32
    torch.testing.assert_close(whiten(x + 1e6), whiten(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch_covariance(x + 1e6)[1], batch_covariance(x)[1])
    assert covariance_rank(x + 1e6) == 4


def test_output_of_two_axes_is_contiguous_like_its_input():
    x, _ = draw((6, 4))
    assert all(f(x).is_contiguous() for f in (whiten_zca, center, whiten_zca))


# Errors

x24 = torch.tensor([[1.0, 2.0, 3.0, 5.0], [0.0, 2.0, 1.0, 7.0]])
nan24 = torch.where(x24 == 7, math.nan, x24)
collinear = torch.arange(20.0).view(10, 2)
LEAST_ONE = [batch_covariance, covariance_rank]
EVERY = [f for pair in PAIRS for f in pair if f is not batch_norm]


@pytest.mark.parametrize("function", [*LEAST_ONE, *EVERY], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (x24.tolist(), TypeError, "x is of type list; it must be a tensor"),
        (x24.long(), TypeError, r"x has dtype torch.int64.*x.float"),
        (x24.to(torch.complex64), TypeError, "x has dtype torch.complex64"),
        (x24[0], ValueError, r"x has shape \(4,\).*axis 1.*unsqueeze"),
        (torch.tensor(1.0), ValueError, r"x has shape \(\)"),
        (torch.zeros(0, 4), ValueError, r"x has shape \(0, 4\), 0 samples.*at least"),
        (torch.zeros(5, 0), ValueError, r"x has shape \(5, 0\).*at least 1 channel"),
    ],
)
def test_every_function_names_a_bad_x_and_itself(function, x, error, words):
    with pytest.raises(error, match=f"^{function.__name__}: {words}"):
        function(x)


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.__name__)
def test_one_sample_is_refused(function):
    words = rf"^{function.__name__}: x has shape \(1, 4\), 1 sample of 4 features.*at least 2"
    with pytest.raises(ValueError, match=words):
        function(x24[:1])


@pytest.mark.parametrize("function", EVERY[3:], ids=lambda f: f.__name__)
@pytest.mark.parametrize("eps", [-1e-5, math.nan, math.inf])
def test_an_eps_that_is_negative_or_not_finite_is_refused(function, eps):
    with pytest.raises(ValueError, match=f"^{function.__name__}: eps is {eps}.*finite"):
        function(x24, eps)


def test_detached_normalization_needs_a_positive_eps_as_batch_norm_does():
    with pytest.raises(ValueError, match=r"eps is 0\.0.*positive"):
        normalize_with_detached_statistics(x24, 0.0)


@pytest.mark.parametrize("function", EVERY[3:], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("x", "eps", "words"),
    [
        (x24, 0.0, r"eps is 0\.0.*m = 2 samples of d = 4.*rank 1.*more than 4 samples"),
        (torch.eye(3), 0.0, r"m = 3 samples of d = 3.*rank 2.*more than 3 samples"),
        (x24, 1e-60, r"eps is 1e-60.*rank 1.*eps > 0"),
        (
            collinear,
            0.0,
            r"m = 10 samples of d = 2.*rank 1.*linear function of the others.*`batch_norm`",
        ),
        (torch.full((7, 1), 0.1), 0.0, r"m = 7 samples of d = 1.*rank 0.*none is constant"),
        (nan24, 1e-5, r"1 of the 8 values of x is not finite.*leave those samples out"),
        (x24 / 0, 1e-5, r"8 of the 8 values of x are not finite"),
        (x24 * 1e30, 1e-5, r"covariance overflows in torch.float32.*x.double"),
    ],
)
def test_what_cannot_be_whitened_is_named_with_what_would_do(function, x, eps, words):
    with pytest.raises(ValueError, match=f"^{function.__name__}: .*{words}"):
        function(x, eps)


@pytest.mark.parametrize("function", [f for f in EVERY if "cholesky" in f.__name__])
def test_an_eps_lost_in_rounding_is_refused_by_cholesky(function):
    x, _ = draw((4, 6), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"eps is 1e-05, lost.*variance.*larger eps.*whiten_zca"):
        function(1e4 * x)


def test_rank_of_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="covariance_rank: 1 of the 8 values of x is not"):
        covariance_rank(nan24)


@pytest.mark.parametrize("function", [center, center_with_detached_mean])
def test_without_a_joint_statistic_a_nan_stays_in_its_channel(function):
    assert function(nan24).isnan().any(0).tolist() == [False, False, False, True]
