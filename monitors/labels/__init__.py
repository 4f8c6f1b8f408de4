"""What people say of answers: late references and feedback scores, and the policy that judges them."""
