//! Enums that list their own variants: the list cannot be incomplete.

/// Declares an enum, and `ALL`, its variants in their order.
macro_rules! with_all {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$of:meta])* $variant:ident),* $(,)? }) => {
        $(#[$meta])*
        $vis enum $name { $($(#[$of])* $variant),* }

        impl $name {
            /// Every variant, in this order.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}
pub(crate) use with_all;
