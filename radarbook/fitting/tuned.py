"""Every tuned number of fitting, each with the measurement that chose it.

Numbers in brackets are those of the decision records (``jupyter_book/decisions``). "Not measured"
marks values that no kept measurement supports. The table of stages is
:mod:`radarbook.fitting.schedule`.
"""

from __future__ import annotations

# -- convergence of a run ------------------------------------------------------------------------

#: A face has converged if its last step lowered its loss by less than this share. Not measured.
CONVERGED = 1e-2
#: It has diverged if its loss ended this many times above where the stage began. Visibility is
#: computed again at the end, which alone changes a small loss by some per cent.
DIVERGED = 1.5
#: Steps without a fall of the loss by a relative TOLERANCE, after which a stage ends. Not measured.
PATIENCE, TOLERANCE = 20, 1e-3

# -- restarts ------------------------------------------------------------------------------------

#: Runs at most: three with the search among minima replace four without [0012, 0018].
RUNS = 3
#: Two runs agree if their losses differ by a smaller share. Not measured.
SAME_LOSS = 0.02
#: And, where no stage compares faces, their coefficients by less than this root mean square, in
#: standard deviations. Not measured.
SAME_COEFFICIENTS = 0.1
#: Two minima more coherent than this are one: at 0.985 a wrong face at 0.58 mm counts as the
#: correct one [0019].
SAME_MINIMUM = 0.995
#: Weights of dark pixels in the second of two alternating kinds of run, dB: bright pixels alone
#: bring a face of material 0.45 from 2.3 to 1.0 mm; smoother faces prefer the defaults [0012].
BRIGHT_PIXELS = {"floor_db": -15.0, "mask_db": -12.0, "speckle_db": -8.0}

# -- samples of a recording, and pixels ----------------------------------------------------------

#: Every n-th antenna: with a third of them, ghosts of the face alias into its image [0007].
ANTENNAS = 2
#: Unambiguous depth of the kept frequencies, m: a head is not deeper. Not measured.
DEPTH = 0.12
#: Distance of pixels, and half the side of the image, m: half a resolution cell; a face's width.
PIXEL, HALF_WIDTH = 4.5e-3, 0.09
#: Pixels fainter than this below the maximum do not count for a centroid (side lobes), dB. Not
#: measured.
CENTROID_DB = -20.0
#: What is farther behind the nearest pixels is no face but a neck or a torso, m, and the share of
#: the centroid's weight that the nearest pixels hold. On five faces with neck and torso starts are
#: off by 5 to 28 mm along y instead of 28 to 121; 0.04 to 0.06 m and a share of 0.2 give the same
#: [0041].
FOREGROUND, NEAREST = 0.05, 0.1
#: Distance of the first ghost of an array, over the width of the image, from which on this is done:
#: 1.0 for the QAR50 at 0.3 m, and 0.5 for every second of its antennas, where ghosts are nearest.
GHOSTS = 0.75

# -- power and depth -----------------------------------------------------------------------------

#: Residuals are scaled to these: 3 nepers of power and 2 mm of mean depth count alike. Not
#: measured.
LOG_SCALE, DEPTH_SCALE = 3.0, 2e-3
#: Errors of a logarithm of power and of a depth (m) that are there without noise [0009].
LOG_ERROR, DEPTH_ERROR = 0.3, 1e-4
#: Number of noise samples from which the weights are estimated [0009]. Not measured.
NOISE_SAMPLES = 8
#: Levels below a target's maximum down to which power and depth are compared, and that of its
#: noise, speckle and side lobes, dB [0009, 0012].
FLOOR_DB, MASK_DB, SPECKLE_DB = -30.0, -20.0, -15.0
#: Weight of the prior, and root mean square residual of a correct face, where a stage states none.
PRIOR, SIGNAL_NOISE, IMAGE_NOISE = 2e-3, 0.02, 0.02
#: Root mean square residual of a correct face, as ensembles weight it. Not measured.
NOISE = 0.05

# -- phases --------------------------------------------------------------------------------------

#: Contrast of all pixels and of highlights alone: few highlights are easier to bring into phase
#: than many [0009]. The values: not measured.
CONTRAST, HIGHLIGHT_CONTRAST = 0.3, 3.0
#: Normalised residual power that a correct face may leave in addition to its diffuse share, for a
#: search among minima to end: correct faces leave 0.002, wrong ones 0.01 and more [0013].
RESIDUAL_ALLOWED = 0.005
#: Largest diffuse share at which a residual decides by itself: it varies by a thirtieth of itself
#: between speckle realisations, and wrong minima differ by as much [0013].
LARGEST_DIFFUSE_SHARE = 0.15
#: Reflections of a path that a fit by phases models: double bounce is 1 to 6 % of a face's power,
#: and without it a fit moves by up to half a millimetre [0025].
BOUNCES = 2

#: Speckle realisations that show which share of the diffuse power the gains of antennas absorb:
#: 3 % for a smooth face, 1 % at material 0.3 [0041].
GAIN_SAMPLES = 2

# -- models of many coefficients -----------------------------------------------------------------

#: Coefficients above which a fit begins with the leading ones of shape and expression alone, and
#: its prior follows the residual; the number of leading ones is the paper's.
MANY_MODES, LEADING = 40, (10, 7)
#: Independent residuals of smoothed power and depth, from wide to narrow smoothing: two for each
#: resolution cell of a face as wide as the smoothing. Seventeen parameters take 0.4 of the loss at
#: the truth of a face at the widest. And the level of what is not coherent, dB: at -20 instead of
#: -15 one face of another model ends at 1.08 instead of 1.30 mm. Three tuning faces.
POWER_INDEPENDENT, MANY_SPECKLE_DB = (100.0, 200.0, 300.0), -20.0

# -- Adam and L-BFGS -----------------------------------------------------------------------------

#: Step of one parameter, normalised; through a learned renderer. Not measured.
ADAM_RATE, LEARNED_RATE = 0.05, 0.02
#: The defaults of torch's examples. Not measured.
LBFGS_HISTORY, LBFGS_EVALUATIONS = 10, 20

# -- Levenberg-Marquardt -------------------------------------------------------------------------

#: Damping at the start, relative to the Hessian's diagonal, its range and its factor. Not measured.
LM_DAMPING, LM_LEAST_DAMPING, LM_MOST_DAMPING, LM_FACTOR = 1e-2, 1e-6, 1e4, 5.0
#: Smallest relative gain of a step, and dampings tried per step. A hundredth of this gain follows
#: flat valleys at the end of a fit [0011].
LM_GAIN, LM_TRIES = 2e-3, 5
EXACT_DAMPING, EXACT_GAIN = 1e-4, 2e-5
#: Steps per Jacobian, with Broyden's updates in between [0021].
LM_REUSE = 3
#: Longest step of one parameter, normalised. Not measured.
LM_REACH = 1.0
#: Modes above which approximate Jacobians are of first order in the motion of facets: such a one
#: takes as long as some 150 signals, for any number of modes. Of 318 unknowns 5.2 instead of 9.4 s,
#: without the steepest facets 2.7 instead of 5.2 s (one thread).
FIRST_ORDER_MODES = 150
#: Steps of finite differences, normalised: shape, expression, translation, rotation, rendering.
#: 5 µm of the surface for coefficients and 10 µm for poses, between rounding of complex64 and the
#: curvature of phases [0022]. The material enters by its square, whose slope at 0 is 0.
DIFFERENCES = (5e-3, 5e-3, [2e-4] * 3, [5e-4] * 3, [1e-2, 0.2, 1e-2])

# -- frames of one person ------------------------------------------------------------------------

#: Joint steps, at most; the frames' own fits are near. Not measured.
FRAME_STEPS = 6
#: Rise of a frame's normalised residual power at the shape of another, up to which they agree. Not
#: tuned: of five frames of an ICT face it misses one whose shape is 0.24 mm off (others 0.03-0.05).
FRAMES_AGREE = 0.02

# -- ensembles -----------------------------------------------------------------------------------

#: How widely faces differ, normalised, by field: poses uniformly, and the position to the 9 mm
#: that the centroid of an image leaves [0007].
POPULATION = (1.0, 1.0, [0.18] * 3, [3**-0.5] * 3, [3**-0.5] * 3)
#: Width of an ensemble in units of the population, where a stage states none.
ENSEMBLE_WIDTH = 0.3
#: Faces per unknown up to a width of 0.4, and the fewest of all. Not measured.
ENSEMBLE_FACES, ENSEMBLE_FEWEST = 3.2, 40
#: Factor of the variance of the regression's residuals, and white share of their correlations. Not
#: measured.
ENSEMBLE_INFLATION, ENSEMBLE_WHITE = 3.0, 0.3
#: Longest step, root mean square in units of the ensemble. Not measured.
ENSEMBLE_REACH = 1.5

# -- search for the pose -------------------------------------------------------------------------

#: Number of samples per step. 192 in all bring four extreme poses from 10-24 mm to 2-7 mm [0012].
POSE_SAMPLES = (96, 64, 32)
#: Width of a step in terms of the one before. Not measured.
POSE_NARROWER = 0.5
#: Width of the first step, normalised, by field: 10, 17 and 10 mm, which a centroid may be off;
#: pitch, which goes with y, has twice the range of yaw.
POSE_WIDTH = (0.0, 0.0, [0.2, 0.35, 0.2], [0.7] * 3, [0.0] * 3)

#: Orientations sampled over ± these angles (yaw, pitch, roll, rad), and how many are followed
#: [0040].
ORIENTATIONS, ORIENTATIONS_TRIED = 64, 4
ORIENTATION_MOST = (0.5236, 0.5236, 0.1047)
#: Share of the start's own loss, below which another pose is taken [0040].
ORIENTATION_GAIN = 0.5
#: Finite differences of position and orientation, normalised: 2 mm and a degree. Powers smoothed by
#: 7 and 14 mm are smooth over them. Longest step, in their units, dampings, and the loss in terms
#: of the best one from which on a pose is not followed any more. Not measured.
ORIENTATION_STEPS = ([0.04] * 3, [0.2, 0.1, 0.1])
ORIENTATION_REACH, ORIENTATION_DAMPING, ORIENTATION_HOPELESS = 6.0, (0.01, 0.1, 1.0), 2.0

# -- search among phase cycles -------------------------------------------------------------------

#: How far off fits on smoothed power end, normalised, by field: a third of a standard deviation of
#: each coefficient, half a millimetre, and half a degree [0018].
CYCLE_WIDTH = (0.25, 0.4, [0.008] * 3, [0.08] * 3, [0.3] * 3)
#: Moves sampled, and minima rendered and descended from, per step [0019]. 512: not measured.
CYCLE_SAMPLES, CYCLE_RENDERED, CYCLE_TRIED = 512, 12, 2
#: How much less coherent than the best a rendered minimum may be. Not measured.
CYCLE_MARGIN = 0.04
#: Steps of a descent with Broyden's updates alone [0020], and the least relative gain of a search.
CYCLE_STEPS, CYCLE_GAIN = 3, 2e-3
#: A descent ends early at so many times the best loss if it has not halved its own. Not measured.
CYCLE_HOPELESS = 1.5
#: Samples whose product is below this share of the largest belong to side lobes; cost of half a
#: squared standard deviation, in units of γ; and steps of a climb. Not measured.
COHERENCE_LEVEL, COHERENCE_PRIOR, COHERENCE_STEPS = 0.05, 2e-4, 40

# -- acceptance ----------------------------------------------------------------------------------

#: A face is not accepted if fewer than this share of faces are as far from the mean: two runs of
#: one face agreed at 7.4 mm, with three coefficients close to −3 [0013].
RARE = 1e-3
#: A correct face's residual may exceed the predicted diffuse power by this share of it, plus this
#: normalised power: for the whole recording, and for its highlights [0028].
RESIDUAL_TOLERANCE, RESIDUAL_FLOOR = 0.25, 0.003
HIGHLIGHT_TOLERANCE, HIGHLIGHT_FLOOR = 0.6, 0.002
#: Highlights are the brightest pixels of the fitted face that hold this share of its power [0028].
HIGHLIGHTS = 0.75
#: Score above which a delay is noticed: the square of 4 σ; correct faces have about 1 [0028].
DELAY_SCORE = 16.0
#: Excess of the residual over the predicted level, as a share of the remaining power, from which on
#: the recording holds no face: 0.9 for a ball and for a plate [0028], up to 0.34 for ICT faces of
#: all modes fitted with 10 + 7.
NO_FACE = 0.6
#: Excess of the residual from which on phases do not fit, and a fit of many coefficients keeps the
#: face of smoothed power [0036].
PHASES_FIT = 0.1
#: Normalised parameters this close to a bound are at it.
AT_BOUND = 1e-6
#: Number of independent residuals of a recording: at the truth of ten faces behind a layer, a
#: further parameter lowers the loss by one part in 1100 to 2500.
INDEPENDENT = 1500

# -- highlights of a face ------------------------------------------------------------------------

#: Lateral smoothing of the image, m; half the least distance of two maxima, m; and first nulls of
#: the point-spread function, m, for which the statistics hold [0038].
HIGHLIGHT_SMOOTHING, HIGHLIGHT_REACH, HIGHLIGHT_RESOLUTION = 0.0032, 0.009, (0.003, 0.006)
#: Width of the middle of an image, where its depth counts, and the distance from a parabola at
#: which a depth counts little, m [0038].
HIGHLIGHT_MIDDLE, HIGHLIGHT_OFF = 0.045, 0.005
#: Antennas of one kind up to which all are used.
HIGHLIGHT_ANTENNAS = 60
#: Of the statistics over simulated faces: mean (11,), and the root of the inverse covariance
#: (11, 11), by ``python -m benchmarks.refusals --other ict_face.h5 --tuning --count 25
#: --statistics`` [0038].
FACE_HIGHLIGHTS: tuple[list[float], list[list[float]]] = (
    [2.2315, 2.5035, 3.4802, 3.6932, 3.0972, 3.6963, 3.0567, 17.2775, -1.1189, 1.8197, 2.3693],
    [
        [6.105, -1.792, -0.598, -0.479, 1.236, -0.126, -2.738, -0.006, -0.003, -0.961, 0.893],
        [0.0, 6.376, -2.579, 1.18, -0.955, -3.768, -2.604, -0.01, -0.025, 0.127, 0.279],
        [0.0, 0.0, 6.124, -2.924, -0.784, -1.433, -6.675, 0.051, -0.043, 0.61, -0.547],
        [0.0, 0.0, 0.0, 20.389, -1.594, -18.234, 0.783, -0.032, -0.02, -1.619, 0.329],
        [0.0, 0.0, 0.0, 0.0, 14.057, -1.07, -10.698, -0.025, 0.013, 0.338, -0.335],
        [0.0, 0.0, 0.0, 0.0, 0.0, 8.092, -0.256, -0.014, 0.005, -1.968, -0.619],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.047, 0.033, -0.047, -4.215, 0.842],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.11, -0.056, -2.258, -0.689],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.188, -0.622, 0.456],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.872, -3.753],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.858],
    ],
)
#: Discriminant between faces and hands: slope (11,) and offset, by the same command [0038].
HAND_HIGHLIGHTS: tuple[list[float], float] = (
    [1.3502, -0.2597, -0.9927, -0.1079, 1.9591, -0.3358, 1.4603, -0.0311, -0.0303, -4.8287, 0.9225],
    2.9096,
)
#: Squared Mahalanobis distance, and discriminant, from which on they are of no face [0038].
NO_FACE_HIGHLIGHTS, HAND_HIGHLIGHTS_LIMIT = 45.0, 0.0

# -- delay ---------------------------------------------------------------------------------------

#: Largest delay that is fitted, s, of either sign: 60 mm of range, more than cables leave.
LARGEST_DELAY = 4e-10
#: Steps of the delay, at most; the step, s, at which the fit ends (0.15 mm of range); and the step,
#: s, after which the fit of the face starts from an ensemble, because it moves by over 1 mm.
DELAY_ROUNDS, DELAY_SMALL, DELAY_LARGE = 6, 1e-12, 2e-11

# -- layer ---------------------------------------------------------------------------------------

#: Steps of the scan over optical thickness, in wavelengths: its minima are a quarter to a half
#: apart [0026].
LAYER_SCAN = 1 / 16
#: Minima of one scan that are descended from; their least distance from those visited, in
#: wavelengths; and the share by which their loss may exceed the present one. Not measured.
LAYER_MINIMA, LAYER_APART, LAYER_MARGIN = 3, 1 / 12, 0.01
#: Scans, at most. Not measured.
LAYER_ROUNDS = 3
#: Steps from each minimum at most, the share of the loss that is still worth one, and the damping
#: and its factor: without damping steps stop in the flat valley between layer, position and shape
#: [0026].
LAYER_STEPS, LAYER_GAIN, LAYER_DAMPING, LAYER_FACTOR = 8, 2e-5, 1e-3, 10.0
#: Standard deviation of the permittivity, a share of it: textiles differ by as much.
LAYER_DEVIATION = 0.1
#: Steps of finite differences: optical thickness, m, and permittivity, a share. Not measured.
LAYER_DIFFERENCES = (1e-5, 3e-3)
#: Independent residuals by which the loss of an equally likely layer may exceed the best one's: the
#: square of two standard deviations.
LAYER_LIKELY = 4.0

# -- uncertainty ---------------------------------------------------------------------------------

#: Factors of the error that the residual causes, compared with as much speckle in the linear
#: theory: for the share that the fitted material's diffuse reflection explains, and for the rest.
#: With them 90 % intervals hold 82-94 % of coefficients, on 19 recordings of tuning faces [0014].
KNOWN, UNMODELLED = 1.25, 2.5
#: Number of samples of noise and speckle, more than the unknowns. Not measured.
UNCERTAINTY_SAMPLES = 48
#: Factors of the deviation of a residual, where the prior follows it: of smoothed power and of
#: phases [0036].
SMOOTHED_WIDER, PHASES_WIDER = 1.5, 2.2

#: Shapes that a model lacks: lengths and deviations, mm, of smooth displacements along the normals,
#: for a face of many coefficients that is not accepted. Alignment within 75 mm of the nose tip
#: leaves 1.4 of their 1.7 mm [0044].
BEYOND_LENGTHS, BEYOND_DEVIATIONS = (20.0, 10.0), (1.4, 0.95)

# -- learned fit ---------------------------------------------------------------------------------

#: Sampled faces that show an encoder's errors: deviations are then known to a sixteenth.
ENCODER_FACES = 128
