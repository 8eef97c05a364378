"""What each metric measures, each source holds and each family is, in a sentence for somebody who has never met it."""

from __future__ import annotations

from fnmatch import fnmatchcase

# Pattern of a metric's name -> what it measures; the first that fits.
METRICS: tuple[tuple[str, str], ...] = (
    ("seed_spread_*", "How much this distance differs between training seeds: interquartile range over median."),
    ("fid", "Fréchet distance between samples and held-out data in Inception-v3 features; 0 would be no difference."),
    ("train_f*d*", "The Fréchet distance to the training split, as papers on CIFAR-10 report FID: copies look good."),
    ("*_within", "The mean over classes of the Fréchet distance between samples and held-out data of that class."),
    ("class_accuracy", "Share of samples that a classifier of real data gives the label that they were drawn for."),
    ("within_class_variance", "How varied samples of one class are, relative to held-out data of it; 1 is right."),
    ("conditional_nll_nats", "Negative log-likelihood of held-out data given their condition, nats per event."),
    ("conditional_bits_per_dim", "Negative log-likelihood of held-out data given their condition, bits per dimension."),
    ("fd_infinity", "The Fréchet distance extrapolated to infinitely many samples; near 0 for real data."),
    ("fd_*_class_centred", "Fréchet distance of what events of a class look like; blind to how often each occurs."),
    ("fd_*_depths", "Fréchet distance in early, middle and late features of a small classifier together: grain, "
                    "strokes and classes. Real data, too, are above 0."),
    ("fd_*_early", "Fréchet distance in a classifier's first features: grain and edges."),
    ("fd_*_middle", "Fréchet distance in a classifier's middle features: strokes and their places."),
    ("fd_*_late", "Fréchet distance in a classifier's last features, standardised: mostly the classes."),
    ("fd_*", "Fréchet distance: how far mean and covariance of samples lie from those of held-out data, in the "
             "features that its name ends with (identity: the data themselves). Real data, too, are above 0."),
    ("kid", "Kernel distance in Inception-v3 features: unbiased, so about 0 for real data."),
    ("kd_*", "Kernel distance between samples and held-out data: unbiased, so about 0 for real data."),
    ("cmmd", "Maximum mean discrepancy in CLIP's features with a Gaussian kernel, times 1,000; about 0 for real data."),
    ("gmmd_*", "Maximum mean discrepancy with a Gaussian kernel, times 1,000; about 0 for real data."),
    ("fld_*", "By how much held-out data are less likely under Gaussians about samples than about real data; copies of "
              "training data make it large."),
    ("vendi", "How many different samples there are in effect."),
    ("vendi_ratio", "How many different samples there are in effect, over that of held-out data; 1 is right."),
    ("sliced_wasserstein", "How far points must be moved, on average over directions, to turn samples into data."),
    ("precision", "Share of samples that lie where real data lie. Rewards playing safe."),
    ("density", "How many real neighbourhoods a sample lies in, 1 as real data. Rewards playing safe."),
    ("recall", "Share of real data that lie where samples lie. A model that is spread too wide scores well."),
    ("coverage", "Share of real data that have a sample in their neighbourhood: how much of the variety is reached."),
    ("modes_covered", "How many of the distinct kinds of event (modes) are ever drawn."),
    ("high_quality_share", "Share of samples that lie on a mode, within three standard deviations."),
    ("class_share", "Share of samples of the class that was rare in training; of no direction: fresh real data have it "
                    "as often as before."),
    ("class_share_ratio", "Share of samples of the class that was rare, over its share in training; 1 is right."),
    ("mode_reverse_kl", "How unlike the true frequencies the model's are over the modes; 0 where they are equal."),
    ("total_variation", "The true distance between the model's and the data's distribution: the largest difference in "
                        "the probability of any event, 0 to 1. Known only where the data's distribution is."),
    ("kl_divergence", "The true Kullback-Leibler divergence; known only where the data's distribution is."),
    ("cell_total_variation", "Total variation between samples and the known density over some 512 cells of equal mass; "
                             "the oracle's value is the floor."),
    ("cell_kl", "Kullback-Leibler divergence of samples from the known density over some 512 cells of equal mass."),
    ("valid_share", "Share of samples that are possible at all in the known language."),
    ("unigram_total_variation", "How unlike the data's the samples' frequencies of single tokens are, 0 to 1; the "
                                "oracle's value is the floor."),
    ("bigram_total_variation", "How unlike the data's the samples' frequencies of pairs of tokens are, 0 to 1."),
    ("trigram_total_variation", "How unlike the data's the samples' frequencies of three neighbouring tokens are, 0 to "
                                "1; the oracle's value is the floor."),
    ("kl_per_token", "Kullback-Leibler divergence of the model from a known language, nats per token; where the "
                     "likelihood is a bound, so is this, from above."),
    ("mode_width_ratio", "Median distance of samples from the nearest mode over that of real data; 1 is right."),
    ("c2st_*", "How often a small network tells samples from held-out data; 0.5 is by chance, so perfect."),
    ("column_ks", "How unlike held-out data's the distribution of one numeric column is, the mean of all: the largest "
                  "difference of the cumulative shares, 0 to 1; the oracle's value is the floor."),
    ("column_total_variation", "How unlike held-out data's the frequencies of one column's categories are, the mean of "
                               "all, 0 to 1; the oracle's value is the floor."),
    ("correlation_difference", "How far the correlation of two numeric columns is from that of held-out data, the mean "
                               "of all pairs; the oracle's value is the floor."),
    ("pair_total_variation", "How unlike held-out data's the joint frequencies of two columns are, numbers cut into "
                             "quarters, the mean of all pairs, 0 to 1; the oracle's value is the floor."),
    ("black_ratio", "Share of pixels that are exactly black, over that of held-out data; 1 is right."),
    ("white_ratio", "Share of pixels that are exactly white, over that of held-out data; 1 is right."),
    ("roughness_ratio", "Mean squared difference of neighbouring pixels over that of held-out data; 1 is right."),
    ("level_total_variation", "How unlike held-out data's the frequencies of pixel levels are; 0 where equal."),
    ("nll_nats", "Negative log-likelihood of held-out data, nats per event: how surprised the model is by real data."),
    ("bits_per_dim", "Negative log-likelihood of held-out data, bits per dimension: of a text, per character."),
    ("annealed_nll_nats", "Negative log-likelihood of held-out data, nats per event, by an estimate of the constant."),
    ("normaliser_gap", "Between an upper and a lower bound of the logarithm of the model's constant, in nats; below 0 "
                       "where its chains do not mix."),
    ("data_copying", "A test for copies of the training data: below −3 the samples lie closer to it than new data do."),
    ("authenticity", "Share of samples that are no copy of a training event."),
    ("train_distance_ratio", "How far samples lie from their nearest training event, over how far held-out data do; 1 "
                             "is right, copies lower it."),
    ("squared_displacement", "How far events of the first source are moved: the mean squared distance."),
    ("path_energy", "The squared velocity along the way, integrated: equal to the squared displacement where ways are "
                    "straight, and more where they bend."),
    ("normalised_path_energy", "Path energy less the least possible, as a share of the latter; 0 is optimal."),
    ("class_kept", "Share of events of the first source whose class is recognised where they end."),
    ("evaluations_per_sample", "How often the network is asked to draw one sample."),
    ("train_seconds", "Time to train, on this machine."),
    ("evaluate_seconds", "Time to measure, on this machine."),
    ("seconds_per_sample", "Time to draw one sample, on this machine."),
    ("train_flops", "Floating-point operations spent on training: the budget, equal for all."),
    ("parameters", "Numbers in the network that draws samples: the budget, equal for all."),
    ("trained_parameters", "Numbers in all networks that were trained."),
    ("peak_memory", "Largest memory of the run's process."),
    ("stability_gradient_norm_*", "Gradient norm of one player before clipping; the name ends with its quantile."),
    ("stability_last_minus_best", "How much worse the end of training is than its best point."),
)  # fmt: skip
# Pattern of a source's name -> what it holds.
SOURCES = {
    "die": "Throws of a die whose faces have known probabilities.",
    "tiny_images": "Images of 2 × 2 grey pixels, six patterns and noise: the probability of every image is known.",
    "ring": "Points in the plane: eight tight clusters on a circle, a known density.",
    "grid": "Points in the plane: 5 × 5 tight clusters, a known density.",
    "mixture_*": "Points in several dimensions: random, rotated clusters, a known density; the name says in how many "
                 "dimensions, and how many clusters.",
    "digits": "1,797 real handwritten digits of 8 × 8 pixels.",
    "stacked_digits": "Three random 8 × 8 digits as the colours of one image: 1,000 kinds, equally likely.",
    "mnist": "70,000 real handwritten digits of 28 × 28 pixels.",
    "binarised_mnist": "MNIST with black and white pixels, drawn by their grey level: for likelihoods.",
    "stacked_mnist": "Three random MNIST digits as the colours of one image: 1,000 kinds, equally likely.",
    "fashion_mnist": "70,000 photographs of clothes, 28 × 28 grey pixels.",
    "kmnist": "70,000 cursive Japanese characters of 28 × 28 pixels.",
    "cifar10": "60,000 colour photographs of 32 × 32 pixels, ten kinds of animals and vehicles.",
    "celeba": "202,599 photographs of faces.",
    "markov": "Strings of letters, each of which allows three others after it: a known language.",
    "grammar": "Sentences of a small grammar whose verbs agree with their nouns over any distance: a known language.",
    "text": "Characters of a text: Python's own help, or any file.",
    "moons": "Points in the plane: two interlocked half circles, a known density.",
    "digit_*": "Real handwritten digits of one class, 8 × 8 pixels.",
    "image_folder": "Images of a folder, cropped to squares.",
    "image_array": "Images of a NumPy file.",
    "array": "Rows of numbers of a NumPy file.",
    "level_array": "Rows of a few levels of a NumPy file.",
    "table": "Rows of a table: numbers and categories.",
    "breast_cancer": "569 tumours, 30 measurements of each and whether it is malignant.",
    "wine": "178 wines, 13 measurements of each and its cultivar.",
    "diabetes": "442 patients, ten measurements of each and the progression of their disease.",
}  # fmt: skip
FAMILIES = {
    "autoregressive": "Predicts one value after another: exact likelihood, one network evaluation per value.",
    "flow_matching": "Learns the velocity from noise to data and integrates it: many network evaluations per sample.",
    "diffusion": "Takes noise away in small steps: a bound on the likelihood, many network evaluations per sample.",
    "score": "Learns towards where noisy data grow likelier and follows it: many network evaluations per sample.",
    "mean_flow": "Learns flow matching's average velocity: one network evaluation per sample, no likelihood.",
    "gan": "A generator against a critic: one network evaluation per sample, no likelihood.",
    "masked_diffusion": "Fills in masked values, in any order: a bound on the likelihood, up to one network evaluation "
                        "per value.",
    "vae": "An encoder and a decoder of latent variables: a bound on the likelihood, one evaluation per sample.",
    "normalizing_flow": "An invertible map to noise: exact likelihood on points, a bound on levels, one evaluation.",
    "energy": "An energy per event, learnt by Markov chains: many network evaluations per sample, an unknown constant.",
    "gaussian": "A Gaussian with the data's mean and covariance: what is no better has learnt nothing more.",
    "flow_matching_ot": "Flow matching whose starts and ends are paired at the least distance within each batch.",
    "reflow": "Flow matching, then again on the pairs that its own flow makes: one network evaluation per sample.",
    "transport_gan": "A generator that is given an event of another source, and pays for how far it moves it.",
    "affine_map": "The optimal map between Gaussians fitted to two sources: what is no better has learnt nothing more.",
    "oracle": "Fresh real data.",
}  # fmt: skip
UNKNOWN = "This page has no definition of this metric; its own class does."


def source(name: str) -> str:
    """What a source holds; nothing for one from outside the package."""
    return next((text for pattern, text in SOURCES.items() if fnmatchcase(name, pattern)), "")


def metric(name: str) -> str:
    """What a metric measures; `UNKNOWN` for one from outside the package."""
    return next((text for pattern, text in METRICS if fnmatchcase(name, pattern)), UNKNOWN)
