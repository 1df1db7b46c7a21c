"""How a fit is computed: residuals, Newton steps, starts, and coefficients projected out."""
