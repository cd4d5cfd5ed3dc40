//! Prints the names that `EPSILON_CPU` takes on this CPU, the lowest first.

use epsilon_kernels::Level;

fn main() {
    for level in Level::available() {
        println!("{level}");
    }
}
